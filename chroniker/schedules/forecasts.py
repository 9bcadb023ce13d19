"""When runs will probably end, over the chain of jobs that they wait for. Pure functions.

All times are seconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .dependencies import topological_order

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class PendingRun:
    """The run of a job that is in progress or comes next."""

    seconds: float
    """How long it usually takes."""
    slot: float | None = None
    """Its slot. None: no schedule, so that only upstream jobs start it."""
    starts_at: float | None = None
    """When it is due to start; None without a slot."""
    running_since: float | None = None
    """None: not in progress."""
    last_succeeded: bool = True
    """Whether the last run succeeded."""


@dataclass(frozen=True, slots=True)
class Wait(Generic[K]):
    """What a job waits for."""

    upstream: K
    for_success: bool = False
    """Whether the last run of the upstream job must have succeeded."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The slot of a run, and when the run will probably end."""

    slot: float
    finish: float


def forecast(
    runs: Mapping[K, PendingRun], waits: Mapping[K, Sequence[Wait[K]]], now: float
) -> dict[K, Forecast]:
    """Forecast the end of each run; runs without a slot of their own or upstream are left out.

    A run in progress ends when it has taken as long as usual, and no earlier than ``now``. Another
    one starts when it is due and the jobs that it waits for have ended. These are the upstream jobs
    that are running, those whose slot is not later, and those that must succeed and have not.
    A job without a schedule has the earliest slot of the jobs that it waits for.
    """
    edges = [(key, wait.upstream) for key, group in waits.items() for wait in group]
    found: dict[K, Forecast] = {}
    for key in topological_order(runs, edges):
        # In a cycle, which no form accepts, some upstream jobs are not there yet. They are ignored.
        upstream = [wait for wait in waits.get(key, ()) if wait.upstream in found]
        slot = runs[key].slot
        if slot is None:
            slot = min((found[wait.upstream].slot for wait in upstream), default=None)
        if slot is not None:
            found[key] = Forecast(slot, _finish(runs, found, key, slot, upstream, now))
    return found


def _finish(
    runs: Mapping[K, PendingRun],
    found: Mapping[K, Forecast],
    key: K,
    slot: float,
    upstream: Sequence[Wait[K]],
    now: float,
) -> float:
    run = runs[key]
    if run.running_since is not None:
        return max(now, run.running_since + run.seconds)
    starts = max(now, run.starts_at or 0)
    for wait in upstream:
        other = runs[wait.upstream]
        if (
            other.running_since is not None
            or found[wait.upstream].slot <= slot
            or (wait.for_success and not other.last_succeeded)
        ):
            starts = max(starts, found[wait.upstream].finish)
    return starts + run.seconds
