"""Signs of life of a mobster: beats, and what it is executing."""
