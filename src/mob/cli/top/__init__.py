"""`mob top`: shows a running app live on the whole terminal."""
