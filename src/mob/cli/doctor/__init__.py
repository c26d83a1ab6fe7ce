"""The doctor: what of a machine, of running apps and of an app's plan will make trouble."""
