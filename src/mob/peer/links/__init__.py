"""The other members, and the links to them and to the Kingpin."""
