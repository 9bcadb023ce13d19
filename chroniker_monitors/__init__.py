"""Monitors on top of Chroniker's jobs, and the metrics of both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Monitor

__all__ = ["Monitor"]


def __getattr__(name: str) -> object:
    """Import Monitor when it is first used: Django imports this package before models."""
    if name == "Monitor":
        from .models import Monitor

        return Monitor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
