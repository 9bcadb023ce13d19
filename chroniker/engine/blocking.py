"""Why a due job does not start."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from chroniker.models import JobDependency, JobState, Maintenance


def explain_blocked(now: datetime, host: str, limit: int = 200) -> None:
    """Write down, for due jobs that wait for others or rest, what they wait for."""
    _explain_waiting(now, host, limit)
    _explain_paused(now, host, limit)


def _explain_paused(now: datetime, host: str, limit: int) -> None:
    windows = list(Maintenance.objects.active(now).filter(pause=True).prefetch_related("entries"))
    if not windows:
        return
    due = JobState.objects.due(now).for_host(host).paused(now).order_by("due_at")
    for pk, job, reason in list(due.values_list("pk", "job", "blocked_reason")[:limit]):
        for window in windows:
            entries = window.entries.all()
            if not entries or job in {entry.job_id for entry in entries}:
                break
        else:
            continue  # it ended in the meantime
        text = f"maintenance: {window.reason or 'paused'} until {window.ends_at:%Y-%m-%d %H:%M}Z"
        if text != reason:
            JobState.objects.filter(pk=pk, lease_token__isnull=True).update(
                blocked_reason=text[:500]
            )


def _explain_waiting(now: datetime, host: str, limit: int) -> None:
    states = list(
        JobState.objects.blocked(now)
        .for_host(host)
        .order_by("due_at")
        .only("job", "host", "blocked_reason", "next_slot_at", "last_started_at")[:limit]
    )
    if not states:
        return
    dependencies: dict[int, list[JobDependency]] = {}
    for dependency in JobDependency.objects.filter(
        downstream__in=[state.job_id for state in states]
    ).select_related("upstream"):
        dependencies.setdefault(dependency.downstream_id, []).append(dependency)
    upstream_states = _states_of(
        dependency.upstream_id for group in dependencies.values() for dependency in group
    )
    for state in states:
        reasons = [
            reason
            for dependency in dependencies.get(state.job_id, ())
            for other in upstream_states.get(dependency.upstream_id, ())
            if not other.host or not state.host or other.host == state.host
            if (reason := _explain_unmet(dependency, state, other, now))
        ]
        text = ("dependency: " + "; ".join(dict.fromkeys(reasons)))[:500]
        if text != state.blocked_reason:
            JobState.objects.filter(pk=state.pk, lease_token__isnull=True).update(
                blocked_reason=text
            )


def _states_of(jobs: Iterable[int]) -> dict[int, list[JobState]]:
    found: dict[int, list[JobState]] = {}
    for state in JobState.objects.current().filter(job__in=set(jobs)):
        found.setdefault(state.job_id, []).append(state)
    return found


def _explain_unmet(
    dependency: JobDependency, state: JobState, other: JobState, now: datetime
) -> str:
    """What ``state`` waits for in ``other``; the same conditions as the query's, in words."""
    name = dependency.upstream.name
    if dependency.wait_for_completion and other.lease_token is not None:
        return f"{name} is running"
    if dependency.wait_for_completion and other.due_at is not None and other.due_at <= now:
        return f"{name} is about to run"
    if dependency.wait_for_success and other.last_status != "succeeded":
        return f"{name} has not succeeded (last status: {other.last_status or 'never run'})"
    if dependency.wait_for_next_run and not _ran_since(state, other):
        return f"{name} has not yet run for this period"
    return ""


def _ran_since(state: JobState, other: JobState) -> bool:
    if other.next_slot_at is not None:
        return state.next_slot_at is None or other.next_slot_at > state.next_slot_at
    if other.last_started_at is None:
        return False
    return state.last_started_at is None or other.last_started_at > state.last_started_at
