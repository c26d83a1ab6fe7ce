"""One worker process: its life, the module of its role, its ports, its output."""
