"""The web dashboard: a role of its own, which shows the app to a browser and does there what a person asks of it."""
