"""Chains of dependent jobs: their order, expected times and critical path."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from chroniker.enums import RunStatus
from chroniker.models import Job, JobDependency, Run
from chroniker.schedules.dependencies import topological_order

K = TypeVar("K", bound=Hashable)

_HISTORY = 20
"""How many successful runs the expected duration is the median of."""


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One job of a chain; times in seconds from the start of the chain's first job."""

    job: Job
    upstream_jobs: tuple[Job, ...]
    expected_seconds: float | None
    """None: no successful run yet and no expected duration in the definition; counts as 0."""
    starts: float
    ends: float
    critical: bool
    """Whether a delay of this job delays the end of the chain."""


def build_chain(job: Job) -> list[ChainStep]:
    """The job, its upstream and downstream jobs, in the order in which they start."""
    edges = list(JobDependency.objects.values_list("downstream_id", "upstream_id"))
    keys = _reachable(job.pk, edges) | _reachable(
        job.pk, [(after, first) for first, after in edges]
    )
    jobs = Job.objects.in_bulk(list(keys))
    edges = [(a, b) for a, b in edges if a in keys and b in keys]
    by_name = sorted(keys, key=lambda key: jobs[key].name)
    expected = {key: expected_seconds(jobs[key]) for key in keys}
    times = compute_times(
        topological_order(by_name, edges), edges, {k: v or 0.0 for k, v in expected.items()}
    )
    path = set(critical_path(times, edges))
    return [
        ChainStep(
            job=jobs[key],
            upstream_jobs=tuple(jobs[other] for downstream, other in edges if downstream == key),
            expected_seconds=expected[key],
            starts=starts,
            ends=ends,
            critical=key in path,
        )
        for key, (starts, ends) in times.items()
    ]


def expected_seconds(job: Job) -> float | None:
    """The median of the last successful runs, seconds; before the first, the expected duration."""
    seconds = list(
        Run.objects.filter(job=job, status=RunStatus.SUCCEEDED, duration_seconds__isnull=False)
        .order_by("-id")
        .values_list("duration_seconds", flat=True)[:_HISTORY]
    )
    if seconds:
        return median(value for value in seconds if value is not None)
    return float(job.expected_seconds) if job.expected_seconds else None


def compute_times(
    order: Iterable[K], edges: Iterable[tuple[K, K]], seconds: Mapping[K, float]
) -> dict[K, tuple[float, float]]:
    """When each job starts and ends if it starts as soon as all its upstream jobs have ended.

    ``order`` has upstream before downstream; ``edges`` are ``(downstream, upstream)``.
    """
    waits = _group_edges(edges)
    times: dict[K, tuple[float, float]] = {}
    for key in order:
        starts = max((times[other][1] for other in waits.get(key, ()) if other in times), default=0)
        times[key] = (float(starts), float(starts) + seconds[key])
    return times


def critical_path(times: Mapping[K, tuple[float, float]], edges: Iterable[tuple[K, K]]) -> list[K]:
    """The longest path to the last end: keys, first to last, each ending when the next starts."""
    waits = _group_edges(edges)
    if not times:
        return []
    key = max(times, key=lambda each: times[each][1])
    path = [key]
    while before := [other for other in waits.get(key, ()) if other in times]:
        key = max(before, key=lambda each: times[each][1])
        if key in path:  # a cycle that was written without the model's check
            break
        path.append(key)
    return path[::-1]


def _reachable(start: K, edges: Iterable[tuple[K, K]]) -> set[K]:
    """All keys that can be reached from ``start``, which is included."""
    onward = _group_edges(edges)
    found: set[K] = set()
    waiting = [start]
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += onward.get(key, ())
    return found


def _group_edges(edges: Iterable[tuple[K, K]]) -> dict[K, list[K]]:
    groups: dict[K, list[K]] = {}
    for first, second in edges:
        groups.setdefault(first, []).append(second)
    return groups
