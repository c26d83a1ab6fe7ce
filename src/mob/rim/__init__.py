"""The only files that touch the operating system: sockets, descriptors, processes, signals."""
