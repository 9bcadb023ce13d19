"""The admin pages of jobs, runs, hosts, incidents, notifications, digests and maintenance."""

from __future__ import annotations

from .digests import DigestAdmin
from .hosts import HostAdmin
from .incidents import IncidentAdmin
from .jobs import JobAdmin
from .maintenance import MaintenanceAdmin
from .notifications import NotificationAdmin
from .runs import RunAdmin

__all__ = [
    "DigestAdmin",
    "HostAdmin",
    "IncidentAdmin",
    "JobAdmin",
    "MaintenanceAdmin",
    "NotificationAdmin",
    "RunAdmin",
]
