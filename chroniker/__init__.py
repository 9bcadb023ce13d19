"""Scheduled Django management commands, observable by Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .declarations import declare, scheduled
    from .progress import track
    from .run_context import CurrentRun, current_run

__all__ = ["CurrentRun", "__version__", "current_run", "declare", "scheduled", "track"]
__version__ = "0.1.0"

_MODULES = {
    "CurrentRun": "run_context",
    "current_run": "run_context",
    "declare": "declarations",
    "scheduled": "declarations",
    "track": "progress",
}


def __getattr__(name: str) -> Any:
    """Import what a site uses: every process that sets Django up imports this package."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
