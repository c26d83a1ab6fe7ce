"""The command line: `mob run`, `mob ps`."""
