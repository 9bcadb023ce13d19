"""Read the stored samples of a monitor and test thresholds on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from chroniker.models import Job
from chroniker_monitors.backtest import Backtest, PastSample, run_backtest
from chroniker_monitors.conf import conf
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Sample
from chroniker_monitors.thresholds import Rules

from .histories import zone_of

MAX_SAMPLES = 100_000
"""The newest samples of a placement that are tested: ten weeks of one a minute."""
MAX_VALUES = 500_000
"""The values of groups in these samples, all groups together."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the stored thresholds and others would have done on one placement."""

    host: str
    stored: Backtest
    tested: Backtest


def compare_rules(job: Job, tested: Rules) -> Iterator[Comparison]:
    """Yield a comparison for each placement that has samples, by host."""
    zone, max_series = zone_of(job), conf.MONITORS_MAX_SERIES
    for state in placements_with_samples(job):
        groups = max(len(state.series_states), 1) if state.has_groups else 0
        samples = read_past_samples(job, state.host, groups=groups)
        stored = run_backtest(samples, job.probe.rules, zone=zone, max_series=max_series)
        same = tested == job.probe.rules
        yield Comparison(
            state.host,
            stored,
            stored if same else run_backtest(samples, tested, zone=zone, max_series=max_series),
        )


def placements_with_samples(job: Job) -> list[MonitorState]:
    """Return the states on the placements of the current definition that were measured."""
    states = MonitorState.objects.filter(job=job.pk, last_sample_at__isnull=False).order_by("host")
    return [state for state in states if bool(state.host) == job.every_host]


def read_past_samples(job: Job, host: str, *, groups: int = 0) -> list[PastSample]:
    """Read at most :data:`MAX_SAMPLES`, oldest first. ``groups``: how many the monitor has.

    Those of a time when the monitor had groups, or had none, unlike now, are left out.
    """
    samples = Sample.objects.for_placement(job.pk, host).order_by("-at", "-pk")
    if not groups:
        rows = samples.filter(series__isnull=True).values_list("at", "value")[:MAX_SAMPLES]
        found = [PastSample(at, value) for at, value in rows.iterator(chunk_size=10_000)]
    else:
        limit = min(MAX_SAMPLES, MAX_VALUES // groups)
        stored = samples.values_list("at", "severity", "series")[:limit]
        found = [
            _grouped(at, severity, series)
            for at, severity, series in stored.iterator(chunk_size=2000)
            if series is not None or severity == Severity.UNKNOWN
        ]
    found.reverse()
    return found


def _grouped(
    at: datetime, severity: int, series: dict[str, list[float | None]] | None
) -> PastSample:
    values = {name: each[0] for name, each in (series or {}).items()}
    # With groups, a sample is only unknown without any of them if the probe failed.
    return PastSample(at, None, failed=not values and severity == Severity.UNKNOWN, values=values)
