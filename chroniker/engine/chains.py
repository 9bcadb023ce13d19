"""What waits for what, how long it takes, and which path decides when the last one ends."""

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
"""How many of the last good runs the expected time is the median of."""


@dataclass(frozen=True, slots=True)
class ChainStep:
    """One job of a chain; times in seconds from the start of the chain's first job."""

    job: Job
    upstream_jobs: tuple[Job, ...]
    expected_seconds: float | None
    """None: it has not run well yet and tells no expected duration; it counts as 0."""
    starts: float
    ends: float
    critical: bool
    """Whether a delay of it delays the end of the chain."""


def build_chain(job: Job) -> list[ChainStep]:
    """The job, all that it waits for and all that waits for it, in the order of starting."""
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
    """The median of its last good runs, seconds; before the first, what its definition expects."""
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
    """When each starts and ends if it starts as soon as what it waits for has ended.

    ``order`` has each key after those it waits for; ``edges`` are ``(downstream, upstream)``.
    """
    waits = _group_edges(edges)
    times: dict[K, tuple[float, float]] = {}
    for key in order:
        starts = max((times[other][1] for other in waits.get(key, ()) if other in times), default=0)
        times[key] = (float(starts), float(starts) + seconds[key])
    return times


def critical_path(times: Mapping[K, tuple[float, float]], edges: Iterable[tuple[K, K]]) -> list[K]:
    """The keys, first to last, of which each ends when the next one starts, up to the last end."""
    waits = _group_edges(edges)
    if not times:
        return []
    key = max(times, key=lambda each: times[each][1])
    path = [key]
    while before := [other for other in waits.get(key, ()) if other in times]:
        key = max(before, key=lambda each: times[each][1])
        if key in path:  # a circle, inserted behind the model's back
            break
        path.append(key)
    return path[::-1]


def _reachable(start: K, edges: Iterable[tuple[K, K]]) -> set[K]:
    """All that can be come to from ``start``, itself included."""
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
