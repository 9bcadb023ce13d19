"""Monitors on top of Chroniker's jobs, and the metrics of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import Monitor

__all__ = ["Monitor"]


def __getattr__(name: str) -> Any:
    """``from chroniker_monitors import Monitor``; not before, since apps are loaded first."""
    if name == "Monitor":
        from .models import Monitor

        return Monitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
