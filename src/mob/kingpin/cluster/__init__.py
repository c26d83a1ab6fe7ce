"""This machine as a node of a cluster: carries out what `core.membership`, `pairing` and `lease` decide."""
