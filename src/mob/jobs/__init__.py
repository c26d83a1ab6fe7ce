"""Durable jobs on one machine: the process that keeps them, and the file that stores them."""
