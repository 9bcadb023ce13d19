"""The models: a monitor's definition (``Probe``), its state and its history."""

from __future__ import annotations

from .monitor import Monitor, MonitorManager, MonitorQuerySet
from .probe import Probe
from .state import MonitorState, Sample

__all__ = ["Monitor", "MonitorManager", "MonitorQuerySet", "MonitorState", "Probe", "Sample"]
