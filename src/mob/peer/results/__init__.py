"""The outcome of a call: one value, a stream, or many values, and how each is waited for."""
