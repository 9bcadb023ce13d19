"""The duration of a scrape with many jobs, for benchmarks and a test."""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Value
from prometheus_client import generate_latest

from chroniker.models import Job, JobState
from chroniker_monitors.collector.metrics import MetricsConfig
from chroniker_monitors.collector.numbers import JOB_COLUMNS
from chroniker_monitors.collector.prometheus import current_config, metrics
from chroniker_monitors.collector.rows import Snapshot, read
from chroniker_monitors.exposition.formats import TEXT
from chroniker_monitors.exposition.renderer import Renderer

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
BOUNDS = ("0.1", "0.5", "1.0", "5.0", "15.0", "30.0", "60.0", "300.0", "900.0")


@dataclass(frozen=True, slots=True)
class ScrapeTimes:
    """Seconds, the best of several; ``page`` and ``memory`` in bytes."""

    jobs: int
    page: int
    fetch: float
    plain_join: float
    cold: float
    warm: float
    prometheus_client: float
    """The whole slow page: reading, families, generate_latest."""
    generate: float
    """generate_latest alone, of families that are ready."""
    memory: int

    def __str__(self) -> str:
        plain = self.fetch + self.plain_join
        return (
            f"{self.jobs} jobs, {self.page / 1e6:.1f} MB: fetch {self.fetch:.2f} s, "
            f"join {self.plain_join:.2f} s; cold {self.cold:.2f} s = {self.cold / plain:.2f}x, "
            f"warm (1 % changed) {self.warm:.2f} s = {self.warm / plain:.2f}x; "
            f"prometheus_client {self.prometheus_client:.2f} s (cold is "
            f"{self.prometheus_client / self.cold:.1f}x as fast, warm "
            f"{self.prometheus_client / self.warm:.1f}x), of ready families "
            f"{self.generate:.2f} s (cold is {self.generate / self.cold:.1f}x as fast); "
            f"memory {self.memory / self.page:.1f}x page"
        )


def measure(jobs: int, repeats: int = 3) -> ScrapeTimes:
    """Add this many jobs to the database and measure."""
    populate(jobs)
    config = current_config()
    fetch = best_of(fetch_all, repeats)
    lines = [
        (sample.name, ",".join(f'{k}="{v}"' for k, v in sample.labels.items()), sample.value)
        for metric in metrics(read_snapshot(), config)
        for sample in metric.samples
    ]
    join = best_of(lambda: "".join([f"{n}{{{la}}} {v}\n" for n, la, v in lines]).encode(), repeats)
    lines.clear()
    cold = best_of(lambda: page(Renderer(config)), repeats)
    renderer = Renderer(config)
    size = len(page(renderer))
    warm = best_of(lambda: page(renderer), repeats, before=lambda: change(jobs // 100))
    slow = best_of(lambda: generate_latest(_Registry(config)), 1)
    ready = [_BuiltRegistry(list(metrics(read_snapshot(), config)))]
    generate = best_of(lambda: generate_latest(ready[0]), 1)
    ready.clear()
    return ScrapeTimes(jobs, size, fetch, join, cold, warm, slow, generate, memory(config))


def fetch_all() -> None:
    """Fetch the needed columns without any optimization."""
    state = [field.attname for field in JobState._meta.concrete_fields if field.name != "due_at"]
    jobs = Job.objects.order_by("pk").annotate(muted=Value(False))
    list(jobs.values_list(*JOB_COLUMNS, *[f"states__{n}" for n in state]))


class _Registry:
    def __init__(self, config: MetricsConfig) -> None:
        self.config = config

    def collect(self) -> Any:
        return metrics(read_snapshot(), self.config)


class _BuiltRegistry:
    def __init__(self, families: list[Any]) -> None:
        self.families = families

    def collect(self) -> Any:
        return self.families


def read_snapshot() -> Snapshot:
    return read("default", 10**9)


def page(renderer: Renderer) -> bytes:
    return b"".join(renderer(read_snapshot(), TEXT))


def memory(config: MetricsConfig) -> int:
    gc.collect()
    tracemalloc.start()
    renderer = Renderer(config)
    page(renderer)
    page(renderer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def best_of(
    call: Callable[[], object], repeats: int, before: Callable[[], object] = lambda: None
) -> float:
    times = []
    for _ in range(repeats):
        before()
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def change(number: int) -> None:
    """Change the states of this many jobs."""
    ids = random.sample(list(JobState.objects.values_list("pk", flat=True)), max(number, 1))
    JobState.objects.filter(pk__in=ids).update(
        runs_total=random.randrange(10**6), last_ended_at=NOW + timedelta(random.random())
    )


def populate(number: int) -> None:
    """Jobs with a history."""
    first = Job.objects.count()
    jobs = Job.objects.bulk_create(
        [
            Job(
                name=f"nightly export of customer {n}",
                command="export_customer",
                schedule="*/15 8-18 * * MON-FRI",
                expected_seconds=600,
                timeout_seconds=3600,
            )
            for n in range(first, first + number)
        ],
        batch_size=500,
    )
    rng = random.Random(7)
    JobState.objects.bulk_create([_state(job, rng) for job in jobs], batch_size=200)


def _state(job: Job, rng: random.Random) -> JobState:
    def moment() -> datetime:
        return NOW - timedelta(days=rng.random())

    def buckets() -> dict[str, int]:
        return {bound: rng.randrange(500) for bound in BOUNDS}

    return JobState(
        job_id=job.pk,
        last_status="succeeded",
        last_started_at=moment(),
        last_ended_at=moment(),
        last_success_at=moment(),
        last_failure_at=moment(),
        next_run_at=moment(),
        progress_at=moment(),
        parts_total=100,
        parts_done=rng.randrange(100),
        runs_total=rng.randrange(10**5),
        failures_error=rng.randrange(100),
        duration_seconds_sum=rng.random() * 1e5,
        duration_count=5000,
        duration_buckets=buckets(),
        start_lag_seconds_sum=rng.random() * 1e5,
        start_lag_count=5000,
        start_lag_buckets=buckets(),
        cpu_seconds_total=rng.random() * 1e5,
        last_duration_seconds=rng.random() * 100,
        last_max_rss_bytes=rng.randrange(10**9),
    )
