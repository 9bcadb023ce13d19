"""Deadlines, and forecasts of when they are met, of the jobs that have one.

The calculation is in :mod:`chroniker.schedules.forecasts`; this module reads what it needs. A site
without deadlines pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chroniker.enums import RunStatus
from chroniker.exceptions import ScheduleError
from chroniker.schedules.deadlines import parse_finish_by
from chroniker.schedules.forecasts import Forecast, PendingRun, Wait, forecast

if TYPE_CHECKING:
    from chroniker.models import JobState

Placement = tuple[int, str]
"""Job and host."""
FinishBy = tuple[str, str]
"""The text of a deadline, and the time zone of its job."""

MAX_KEYS = 900
"""How many jobs are read by one query: databases limit its parameters."""
_STATE = (
    "job_id", "host", "due_at", "lease_token", "last_started_at", "last_status",
    "restart_at", "restart_slot_at", "retry_at", "retry_slot_at", "run_requested_at",
    "next_slot_at", "next_run_at", "duration_seconds_sum", "duration_count",
)  # fmt: skip


def read_forecasts(
    alias: str, deadlines: Mapping[int, FinishBy], now: datetime
) -> dict[Placement, tuple[float, float]]:
    """Return deadline and expected end of each placement that has both, by its key."""
    if not deadlines:
        return {}
    runs, waits = _read_runs(alias, deadlines)
    found = forecast(runs, waits, now.timestamp())
    return {
        key: (deadline, found[key].finish)
        for key in found
        if key[0] in deadlines
        and (deadline := _deadline(deadlines[key[0]], found[key])) is not None
    }


def _deadline(finish_by: FinishBy, expected: Forecast) -> float | None:
    try:
        slot = datetime.fromtimestamp(expected.slot, UTC)
        deadline = parse_finish_by(*finish_by).after(slot)
    except (ScheduleError, LookupError, ValueError, OSError, OverflowError):
        return None  # written without the model's validation
    return None if deadline is None else deadline.timestamp()


def _read_runs(
    alias: str, jobs: Iterable[int]
) -> tuple[dict[Placement, PendingRun], dict[Placement, list[Wait[Placement]]]]:
    """Read the runs of these jobs and of all jobs upstream, and what they wait for."""
    from chroniker.models import JobDependency, JobState

    edges: dict[int, list[tuple[int, bool]]] = {}
    for downstream, upstream, success in JobDependency.objects.using(alias).values_list(
        "downstream_id", "upstream_id", "wait_for_success"
    ):
        edges.setdefault(downstream, []).append((upstream, success))
    wanted = sorted(_with_upstream(jobs, edges))
    states = (
        JobState.objects.using(alias)
        .current()
        .select_related("current_run", "job")
        .only(*_STATE, "current_run__scheduled_for", "job__expected_seconds")
    )
    runs: dict[Placement, PendingRun] = {}
    hosts: dict[int, list[str]] = {}
    for at in range(0, len(wanted), MAX_KEYS):
        for state in states.filter(job__in=wanted[at : at + MAX_KEYS]):
            runs[state.job_id, state.host] = _pending_run(state)
            hosts.setdefault(state.job_id, []).append(state.host)
    waits = {
        (job, host): [
            Wait((upstream, other), success)
            for upstream, success in edges.get(job, ())
            for other in hosts.get(upstream, ())
            if not host or other in ("", host)
        ]
        for job, host in runs
    }
    return runs, waits


def _with_upstream(
    jobs: Iterable[int], edges: Mapping[int, Sequence[tuple[int, bool]]]
) -> set[int]:
    """Return the jobs and everything upstream of them."""
    found: set[int] = set()
    waiting = list(jobs)
    while waiting:
        job = waiting.pop()
        if job not in found:
            found.add(job)
            waiting += [upstream for upstream, _ in edges.get(job, ())]
    return found


def _pending_run(state: JobState) -> PendingRun:
    if state.duration_count:
        seconds = state.duration_seconds_sum / state.duration_count
    else:
        seconds = float(state.job.expected_seconds or 0)
    succeeded = state.last_status == RunStatus.SUCCEEDED
    if state.lease_token is not None and state.current_run and state.last_started_at:
        slot = state.current_run.scheduled_for.timestamp()
        began = state.last_started_at.timestamp()
        return PendingRun(seconds, slot, running_since=began, last_succeeded=succeeded)
    slot_at = _slot_of(state)
    return PendingRun(
        seconds,
        None if slot_at is None else slot_at.timestamp(),
        None if state.due_at is None else state.due_at.timestamp(),
        last_succeeded=succeeded,
    )


def _slot_of(state: JobState) -> datetime | None:
    """Return the slot of what is due at ``due_at``."""
    if state.restart_at is not None:
        return state.restart_slot_at
    if state.run_requested_at is not None:
        return state.run_requested_at
    retry_first = state.retry_at is not None and (
        state.next_run_at is None or state.retry_at < state.next_run_at
    )
    return state.retry_slot_at if retry_first else state.next_slot_at
