"""What the mobsters print, on its way to the terminal, the log file, and those who follow it."""
