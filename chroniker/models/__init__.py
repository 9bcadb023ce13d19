"""The tables: definitions (``Job``, ``JobDependency``) apart from state (``JobState``, ``Run``)."""

from __future__ import annotations

from .job import Job, JobDependency
from .run import OutputChunk, Run
from .state import Host, JobState

__all__ = ["Host", "Job", "JobDependency", "JobState", "OutputChunk", "Run"]
