"""Mobsters that die come up again in their place; those that cannot come up are reported and harm nobody."""
