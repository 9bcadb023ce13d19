"""Scheduled Django management commands, observable by Prometheus."""

__version__ = "0.1.0"
