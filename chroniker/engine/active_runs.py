"""The runs that a scheduler has started and that have not ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from chroniker.executors.base import RunHandle

from .claims import ClaimedRun


@dataclass(slots=True)
class ActiveRun:
    """A claimed run and its execution."""

    claimed: ClaimedRun
    handle: RunHandle
    pid_stored: bool = False
    output_stored_at: float = field(default_factory=time.monotonic)
    """When its output was last written to the database, by CLOCK_MONOTONIC."""


ActiveRuns = dict[int, ActiveRun]
"""By the primary key of the run."""


def lease_tokens(active: ActiveRuns) -> set[str]:
    """The tokens of the leases that the runs hold."""
    return {run.claimed.token for run in active.values()}
