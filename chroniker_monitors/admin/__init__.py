"""The admin of monitors: the board, the form of each kind, the page of one monitor."""

from __future__ import annotations

from .monitors import MonitorAdmin

__all__ = ["MonitorAdmin"]
