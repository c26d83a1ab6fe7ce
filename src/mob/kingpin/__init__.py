"""The master: launches, revives and introduces mobsters. Knows no application code and never opens a body."""
