"""Incoming calls: what a module exports, which calls wait, how they run, and how they are answered."""
