"""Scheduled Django management commands, observable by Prometheus."""

from __future__ import annotations

from .progress import track

__all__ = ["__version__", "track"]
__version__ = "0.1.0"
