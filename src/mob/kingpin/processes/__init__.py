"""What the Kingpin knows of processes: the fork server, how they died, their ports, the terminal."""
