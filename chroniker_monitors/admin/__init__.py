"""The admin of monitors: the list, the form of each kind, and the page of one monitor."""

from __future__ import annotations

from .monitors import MonitorAdmin

__all__ = ["MonitorAdmin"]
