"""The web dashboard: a role of its own, which shows the app in a browser and carries out a viewer's actions."""
