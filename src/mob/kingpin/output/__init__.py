"""The output of mobsters, on its way to the terminal, the log file, and the clients that follow it."""
