"""Durable jobs on one machine: the process that keeps them, and the file that they lie in."""
