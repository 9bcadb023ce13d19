"""Runs that share processes: what an app provides so that many of its jobs run together.

A job whose ``batch`` names a registered runner needs no process of its own. Its run is executed by
a worker that has executed others before, and what it gave is written together with its end, by the
scheduler. ``processes.batch_guard`` is the process that contains the workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .enums import RunStatus
    from .models import Job, Run

Payload = Mapping[str, object]
"""What an item gave, as JSON can hold it."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A run of a batch, in the process that executes it."""

    run: int
    """The primary key of the run."""
    job: int
    """The primary key of the job."""
    host: str
    """The placement."""


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What a worker got from an item."""

    payload: Payload = field(default_factory=dict)
    error: Exception | None = None
    """Why the run fails, although there is a payload; None: it succeeds."""


@dataclass(frozen=True, slots=True)
class BatchEnd:
    """The end of a run of a batch, to be recorded."""

    job: Job
    run: Run
    status: RunStatus
    error: str
    """Why the run did not succeed."""
    seconds: float | None
    payload: Payload | None
    """None: it ended before it gave anything."""
    ended_at: datetime


class BatchRunner(Protocol):
    """Executes the runs of one kind of jobs, and records what they gave.

    An item may be executed again if the process that contained its worker died.
    """

    def load(self, items: Sequence[BatchItem]) -> Sequence[object]:
        """Read what the items need; return a task for each.

        Called once in a process without connections to a database, before workers are forked. If
        it raises, all runs fail.
        """

    def run(self, task: object) -> ItemResult:
        """Execute one item, in a worker. If it raises, only this run fails.

        The worker is replaced if the item has changed its process: working directory, umask,
        signals, environment, limits, threads, child processes, open transactions, or much memory.
        """

    def record(self, ends: Sequence[BatchEnd]) -> None:
        """Write what the items gave, in the transaction that ends their runs.

        Also called for runs that ended without a payload. Each run is recorded once.
        """
