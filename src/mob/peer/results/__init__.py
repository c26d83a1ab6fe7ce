"""What a call gives: one value, a stream, many values, and how each is waited for."""
