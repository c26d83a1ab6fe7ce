"""Incoming calls and messages: who may send them, in which order they run, and what they are answered."""
