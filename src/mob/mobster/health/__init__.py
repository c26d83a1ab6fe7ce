"""How a mobster shows that it lives: beats, and what it does at the moment."""
