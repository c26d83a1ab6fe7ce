"""Bytes to messages and back: no I/O and no clock; the rooms above feed bytes in and send the bytes that come out."""
