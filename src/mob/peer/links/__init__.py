"""Who is there, and the links to them and to the Kingpin."""
