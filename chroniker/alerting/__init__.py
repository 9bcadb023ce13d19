"""Incidents, notifications and the channels that deliver them."""
