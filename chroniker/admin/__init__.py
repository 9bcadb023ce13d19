"""The admin: jobs, their runs, and the hosts that run them."""

from __future__ import annotations

from .hosts import HostAdmin
from .jobs import JobAdmin
from .runs import RunAdmin

__all__ = ["HostAdmin", "JobAdmin", "RunAdmin"]
