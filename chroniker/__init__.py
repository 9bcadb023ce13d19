"""Scheduled Django management commands, observable by Prometheus."""

from __future__ import annotations

from .declarations import declare, scheduled
from .progress import track
from .run_context import CurrentRun, current_run

__all__ = ["CurrentRun", "__version__", "current_run", "declare", "scheduled", "track"]
__version__ = "0.1.0"
