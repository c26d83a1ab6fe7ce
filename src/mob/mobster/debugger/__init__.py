"""`breakpoint()` in a mobster: pdb in the terminal of the Kingpin."""
