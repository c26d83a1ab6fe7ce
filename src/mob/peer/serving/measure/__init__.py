"""Measurements of serving: times of exports, the application's metrics, and what runs at the moment."""
