"""Bytes to messages and back. No I/O and no clock: whoever has bytes feeds them, whoever gets bytes sends them."""
