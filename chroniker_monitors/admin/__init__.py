"""The admin of monitors and badges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chroniker.admin.registration import load, register
from chroniker_monitors.models import Badge, Monitor

if TYPE_CHECKING:
    from .badges import BadgeAdmin
    from .monitors import MonitorAdmin

__all__ = ["BadgeAdmin", "MonitorAdmin"]

_PAGES = {
    "BadgeAdmin": (Badge, "chroniker_monitors.admin.badges"),
    "MonitorAdmin": (Monitor, "chroniker_monitors.admin.monitors"),
}

for _name, (_model, _module) in _PAGES.items():
    register(_model, _module, _name)


def __getattr__(name: str) -> Any:
    if name not in _PAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_PAGES[name][1], name)
