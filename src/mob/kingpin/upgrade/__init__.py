"""The upgrade of the Kingpin: it replaces its own program and hands over its state."""
