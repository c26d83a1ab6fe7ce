"""Suites of other projects, run against applications that mob serves: `make foreign`."""
