"""The admin: jobs, their runs, the hosts that run them, and what is wrong with them."""

from __future__ import annotations

from .hosts import HostAdmin
from .incidents import DigestAdmin, IncidentAdmin, NotificationAdmin
from .jobs import JobAdmin
from .maintenance import MaintenanceAdmin
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
