"""An app seen from outside: its door, its roster, what can be asked of its Kingpin."""
