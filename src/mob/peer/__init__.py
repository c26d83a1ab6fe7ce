"""What a mobster and a client have in common: links to other processes, outgoing calls, and answers to calls."""
