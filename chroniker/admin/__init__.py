"""The admin pages of jobs, runs, hosts, incidents, maintenance, and what belongs to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chroniker.models import (
    Declaration,
    Digest,
    Host,
    Incident,
    Job,
    Maintenance,
    Notification,
    Run,
)

from .registration import load, register

if TYPE_CHECKING:
    from .declarations import DeclarationAdmin
    from .digests import DigestAdmin
    from .hosts import HostAdmin
    from .incidents import IncidentAdmin
    from .jobs import JobAdmin
    from .maintenance import MaintenanceAdmin
    from .notifications import NotificationAdmin
    from .runs import RunAdmin

__all__ = [
    "DeclarationAdmin",
    "DigestAdmin",
    "HostAdmin",
    "IncidentAdmin",
    "JobAdmin",
    "MaintenanceAdmin",
    "NotificationAdmin",
    "RunAdmin",
]

_PAGES = {
    "DeclarationAdmin": (Declaration, "chroniker.admin.declarations"),
    "DigestAdmin": (Digest, "chroniker.admin.digests"),
    "HostAdmin": (Host, "chroniker.admin.hosts"),
    "IncidentAdmin": (Incident, "chroniker.admin.incidents"),
    "JobAdmin": (Job, "chroniker.admin.jobs"),
    "MaintenanceAdmin": (Maintenance, "chroniker.admin.maintenance"),
    "NotificationAdmin": (Notification, "chroniker.admin.notifications"),
    "RunAdmin": (Run, "chroniker.admin.runs"),
}

for _name, (_model, _module) in _PAGES.items():
    register(_model, _module, _name)


def __getattr__(name: str) -> Any:
    if name not in _PAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_PAGES[name][1], name)
