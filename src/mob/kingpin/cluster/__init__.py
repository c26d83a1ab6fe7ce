"""This machine among several: what `core.membership`, `core.pairing` and `core.lease` decide is carried out here."""
