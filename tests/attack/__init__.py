"""Fuzzers: inputs that nobody means well, for a minute each, by `make attack`."""
