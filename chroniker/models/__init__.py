"""The tables: definitions (``Job``, ``Maintenance``) and state (``JobState``, ``Run``).

``Incident`` and ``Notification`` report problems.
"""

from __future__ import annotations

from .counter import Counter
from .declaration import Declaration
from .digest import Digest
from .incident import Incident
from .job import Job, JobDependency
from .maintenance import Maintenance, MaintenanceJob
from .notification import Notification
from .run import OutputChunk, Run
from .state import Host, JobState
from .worker import Worker

__all__ = [
    "Counter",
    "Declaration",
    "Digest",
    "Host",
    "Incident",
    "Job",
    "JobDependency",
    "JobState",
    "Maintenance",
    "MaintenanceJob",
    "Notification",
    "OutputChunk",
    "Run",
    "Worker",
]
