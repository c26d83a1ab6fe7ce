"""The core of Kingpin and mobsters on a fake clock and fake links, driven by seeded random faults."""
