"""The state and the charts of a monitor, shown above its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chroniker.admin import formats
from chroniker.models import Job
from chroniker_monitors.checking.histories import zone_of
from chroniker_monitors.checking.outcome import format_bound
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState
from chroniker_monitors.series import SeriesState, visible
from chroniker_monitors.thresholds import rank

from .charts import Chart, draw_chart, draw_series_chart
from .history import HistoryBucket, Span, read_history, read_series_history
from .monitor_display import display_unit, placement_states, severity_badge
from .values import format_value

MAX_HOSTS = 6
"""The maximum number of charts on the page of a monitor that runs on every host."""
MAX_LINES = 10
"""The maximum number of groups that are drawn; the table has all of them."""
MAX_ROWS = 200
"""The maximum number of rows of the table below a chart."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A bucket of the history, as the table shows it."""

    at: str
    low: str
    mean: str
    high: str
    worst: str
    samples: int


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """A group of a monitor, as the table shows it."""

    number: int
    """The number of its line in the chart; 0 if it is not drawn."""
    name: str
    badge: str
    value: str
    expected: str
    since: str


@dataclass(frozen=True, slots=True)
class PlacementPanel:
    """A monitor on one placement, as the template shows it."""

    state: MonitorState
    badge: str
    value: str
    since: str
    last_sample: str
    latency: str
    chart: Chart
    table: list[TableRow]
    series: list[SeriesRow]
    """The groups, worst first."""
    dropped_series: int


def placement_panels(job: Job, span: Span, now: datetime) -> list[PlacementPanel]:
    """Build the panels of at most :data:`MAX_HOSTS` placements, worst first."""
    states = sorted(placement_states(job), key=lambda state: -rank(Severity(state.severity)))
    return [_placement_panel(job, state, span, now) for state in states[:MAX_HOSTS]]


def last_ping(job: Job) -> MonitorState | None:
    """Return the state of a heartbeat that has been pinged."""
    return MonitorState.objects.filter(job=job.pk, host="", last_ping_at__isnull=False).first()


def _placement_panel(job: Job, state: MonitorState, span: Span, now: datetime) -> PlacementPanel:
    unit, zone = display_unit(job, state), zone_of(job)
    bounds = [
        (severity, None if job.probe.thresholds.learns else bound)
        for severity, bound in (
            (Severity.WARNING, job.probe.warning), (Severity.CRITICAL, job.probe.critical),
        )
    ]  # fmt: skip
    series = visible(state.series_states, job.probe.thresholds) if state.has_groups else []
    buckets: list[HistoryBucket] = []
    if state.has_groups:
        names = [each.name for each in series[:MAX_LINES]]
        histories = read_series_history(job.pk, state.host, names, span, now)
        chart = draw_series_chart(
            [histories[name] for name in names], bounds, span, now, unit, zone
        )
    else:
        buckets = read_history(job.pk, state.host, span, now)
        chart = draw_chart(buckets, bounds, span, now, unit, zone)
    return PlacementPanel(
        state=state,
        badge=severity_badge(state.severity),
        value=format_value(state.value, unit),
        since=formats.time_html(state.since, job.timezone),
        last_sample=formats.time_html(state.last_sample_at, job.timezone),
        latency=formats.duration(state.latency_seconds),
        chart=chart,
        table=_table_rows(buckets, unit, job.timezone),
        series=_series_rows(series, unit, job.timezone),
        dropped_series=state.dropped_series or 0,
    )


def _series_rows(series: Sequence[SeriesState], unit: str, zone: str) -> list[SeriesRow]:
    return [
        SeriesRow(
            number=number if number <= MAX_LINES else 0,
            name=each.name,
            badge=severity_badge(each.severity),
            value=format_value(each.value, unit),
            expected=f"{format_bound(each.band.low)} - {format_bound(each.band.high)}"
            if each.band
            else "",
            since=formats.time_html(each.since, zone),
        )
        for number, each in enumerate(series, 1)
    ]


def _table_rows(buckets: Sequence[HistoryBucket], unit: str, zone: str) -> list[TableRow]:
    """Build the table for people who cannot see the chart, newest first."""
    return [
        TableRow(
            at=formats.time_text(bucket.at, zone),
            low=format_value(bucket.low, unit),
            mean=format_value(bucket.mean, unit),
            high=format_value(bucket.high, unit),
            worst=str(bucket.worst.label),
            samples=bucket.samples,
        )
        for bucket in reversed(buckets[-MAX_ROWS:])
    ]
