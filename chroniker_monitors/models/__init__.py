"""The models: a monitor's definition (``Probe``), its state and its history."""

from __future__ import annotations

from .badge import Badge
from .monitor import Monitor, MonitorManager, MonitorQuerySet
from .probe import Probe
from .state import MonitorState, Sample

__all__ = [
    "Badge",
    "Monitor",
    "MonitorManager",
    "MonitorQuerySet",
    "MonitorState",
    "Probe",
    "Sample",
]
