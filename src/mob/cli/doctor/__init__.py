"""`mob doctor`: finds likely problems of the machine, of running apps and of an app's plan."""
