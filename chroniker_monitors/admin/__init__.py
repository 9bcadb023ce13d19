"""The admin of monitors: the list, the form of each kind, and the page of one monitor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chroniker.admin.registration import load, register
from chroniker_monitors.models import Monitor

if TYPE_CHECKING:
    from .monitors import MonitorAdmin

__all__ = ["MonitorAdmin"]

_MODULE = "chroniker_monitors.admin.monitors"

register(Monitor, _MODULE, "MonitorAdmin")


def __getattr__(name: str) -> Any:
    if name != "MonitorAdmin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_MODULE, name)
