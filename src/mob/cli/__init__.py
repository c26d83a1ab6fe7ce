"""The command line: the commands of `mob`."""
