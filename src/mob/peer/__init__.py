"""What a mobster and a client have in common: links to the others, calls, and answers to calls."""
