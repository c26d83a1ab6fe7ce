"""The Kingpin replaces its own program, and hands over what it knows."""
