"""What mobsters print, on the way to the terminal."""
