"""What a due job waits for: the conditions of its dependencies, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from chroniker.enums import RunStatus
from chroniker.models import JobDependency, JobState


@dataclass(frozen=True, slots=True)
class UnmetDependency:
    """A dependency that keeps a job from starting."""

    dependency: JobDependency
    upstream: JobState
    """The state of the upstream job that does not meet it."""
    reason: str
    """What it waits for, as a sentence."""


def unmet_dependencies(
    states: Iterable[JobState], now: datetime
) -> Iterator[tuple[JobState, list[UnmetDependency]]]:
    """Each state with its dependencies that are not met, in a constant number of queries."""
    chosen = list(states)
    dependencies: dict[int, list[JobDependency]] = {}
    for dependency in JobDependency.objects.filter(
        downstream__in={state.job_id for state in chosen}
    ).select_related("upstream"):
        dependencies.setdefault(dependency.downstream_id, []).append(dependency)
    upstream_states = _states_of(
        dependency.upstream_id for group in dependencies.values() for dependency in group
    )
    for state in chosen:
        yield (
            state,
            [
                UnmetDependency(dependency, other, reason)
                for dependency in dependencies.get(state.job_id, ())
                for other in upstream_states.get(dependency.upstream_id, ())
                if not other.host or not state.host or other.host == state.host
                if (reason := _explain_unmet(dependency, state, other, now))
            ],
        )


def _states_of(jobs: Iterable[int]) -> dict[int, list[JobState]]:
    found: dict[int, list[JobState]] = {}
    for state in JobState.objects.current().filter(job__in=set(jobs)):
        found.setdefault(state.job_id, []).append(state)
    return found


def _explain_unmet(
    dependency: JobDependency, state: JobState, other: JobState, now: datetime
) -> str:
    """What ``state`` waits for in ``other``: the conditions of the query, as a sentence."""
    name = dependency.upstream.name
    if dependency.wait_for_completion and other.lease_token is not None:
        return f"{name} is running"
    if dependency.wait_for_completion and other.due_at is not None and other.due_at <= now:
        return f"{name} is about to run"
    if dependency.wait_for_success and other.last_status != RunStatus.SUCCEEDED:
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
