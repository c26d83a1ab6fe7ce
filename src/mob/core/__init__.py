"""Decisions. No I/O, no clock, no randomness: `now` is passed in, and what to do is returned."""
