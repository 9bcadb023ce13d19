"""How monitors are created: the app of monitors registers a function, if it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.utils.module_loading import autodiscover_modules

from chroniker.exceptions import ChronikerError
from chroniker.models import Job

from .definitions import ImportedMonitor

MODULE = "chroniker_import"
"""The module of an app that registers how monitors are created."""

MonitorFactory = Callable[[str, Mapping[str, object], ImportedMonitor], Job]

_factories: list[MonitorFactory] = []


class MonitorRefused(ChronikerError):
    """A monitor cannot be created; the message says why."""


def register_monitor_factory(factory: MonitorFactory) -> None:
    """Register the function that creates a monitor, or raises MonitorRefused."""
    if factory not in _factories:
        _factories.append(factory)


def create_monitor(name: str, fields: Mapping[str, object], monitor: ImportedMonitor) -> Job:
    """Create a monitor. Raises MonitorRefused."""
    autodiscover_modules(MODULE)
    if not _factories:
        raise MonitorRefused("chroniker_monitors is not in INSTALLED_APPS")
    return _factories[0](name, fields, monitor)
