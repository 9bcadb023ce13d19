"""Chains of dependent jobs: their order, expected times and critical path."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from statistics import median
from typing import TypeVar

from django.db.models import OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from chroniker.enums import RunStatus
from chroniker.models import Job, JobDependency, Run
from chroniker.schedules.dependencies import topological_order

K = TypeVar("K", bound=Hashable)

_HISTORY = 20
"""How many successful runs the expected duration is the median of."""
_BATCH = 200
"""Jobs in one statement."""


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
    jobs, expected = load_with_durations(keys)
    edges = [(a, b) for a, b in edges if a in keys and b in keys]
    by_name = sorted(keys, key=lambda key: jobs[key].name)
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


def load_with_durations(keys: Iterable[int]) -> tuple[dict[int, Job], dict[int, float | None]]:
    """Jobs and their expected durations, seconds, by primary key; two queries for 200.

    The expected duration is the median of the last successful runs; before the first, what the
    definition says.
    """
    succeeded = Q(status=RunStatus.SUCCEEDED, duration_seconds__isnull=False)
    nth = Run.objects.filter(succeeded, job=OuterRef("pk")).order_by("-id").values("id")
    oldest = Coalesce(Subquery(nth[_HISTORY - 1 : _HISTORY]), 0)
    wanted = list(keys)
    jobs: dict[int, Job] = {}
    seconds: dict[int, list[float]] = {key: [] for key in wanted}
    for start in range(0, len(wanted), _BATCH):
        batch = Job.objects.annotate(oldest=oldest).in_bulk(wanted[start : start + _BATCH])
        # One range of an index for each job.
        ranges = [Q(job=key, id__gte=job.oldest) for key, job in batch.items()]  # type: ignore[attr-defined]
        runs = Run.objects.filter(succeeded).filter(reduce(or_, ranges, Q(pk__in=[])))
        for key, value in runs.values_list("job_id", "duration_seconds"):
            seconds[key].append(value or 0.0)
        jobs |= batch
    durations: dict[int, float | None] = {}
    for key, job in jobs.items():
        defined = float(job.expected_seconds) if job.expected_seconds else None
        durations[key] = median(seconds[key]) if seconds[key] else defined
    return jobs, durations


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
