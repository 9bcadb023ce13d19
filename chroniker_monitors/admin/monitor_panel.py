"""The state and the charts of a monitor, shown above its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from chroniker.admin import formats
from chroniker.models import Job
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState
from chroniker_monitors.thresholds import rank

from .charts import Chart, draw_chart
from .history import HistoryBucket, Span, read_history
from .monitor_display import display_unit, placement_states, severity_badge
from .values import format_value

MAX_HOSTS = 6
"""The maximum number of charts on the page of a monitor that runs on every host."""
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


def placement_panels(job: Job, span: Span, now: datetime) -> list[PlacementPanel]:
    """Build the panels of at most :data:`MAX_HOSTS` placements, worst first."""
    states = sorted(placement_states(job), key=lambda state: -rank(Severity(state.severity)))
    return [_placement_panel(job, state, span, now) for state in states[:MAX_HOSTS]]


def last_ping(job: Job) -> MonitorState | None:
    """Return the state of a heartbeat that has been pinged."""
    return MonitorState.objects.filter(job=job.pk, host="", last_ping_at__isnull=False).first()


def _placement_panel(job: Job, state: MonitorState, span: Span, now: datetime) -> PlacementPanel:
    unit = display_unit(job, state)
    buckets = read_history(job.pk, state.host, span, now)
    bounds = [(Severity.WARNING, job.probe.warning), (Severity.CRITICAL, job.probe.critical)]
    return PlacementPanel(
        state=state,
        badge=severity_badge(state.severity),
        value=format_value(state.value, unit),
        since=formats.time_html(state.since, job.timezone),
        last_sample=formats.time_html(state.last_sample_at, job.timezone),
        latency=formats.duration(state.latency_seconds),
        chart=draw_chart(buckets, bounds, span, now, unit),
        table=_table_rows(buckets, unit, job.timezone),
    )


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
