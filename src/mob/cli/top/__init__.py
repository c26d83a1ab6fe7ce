"""`mob top`: a running app, live, on a whole terminal."""
