"""Compute the values of the metrics from database rows. Pure functions.

They work on whole columns: ten thousand rows give half a million numbers, and work done once per
column costs a fraction of the same work done once per number.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import accumulate, repeat
from math import inf, isfinite, isnan
from typing import Any, NamedTuple

from chroniker.enums import FAILURE_REASONS
from chroniker.schedules.interval import looks_like_interval
from chroniker_monitors.enums import COMMAND as MONITOR_COMMAND
from chroniker_monitors.enums import MetricsDetail

from .metrics import (
    BLOCKED_LABELS,
    FAILURE_LABELS,
    FINAL_STATUSES,
    HISTOGRAM,
    MetricFamily,
    MetricsConfig,
    bucket_labels,
)

Row = tuple[Any, ...]
"""A row as the database driver returned it; its columns have many types."""
Column = Sequence[float | None]
Numbers = dict[str, Column]
"""By name, one number per row; None if a row has none."""

JOB_COLUMNS = (
    "pk", "name", "command", "task", "raw_command", "schedule", "timezone", "hostname", "enabled",
    "expected_seconds", "timeout_seconds", "start_deadline_seconds", "failures_before_alert",
    "team", "alert_severity", "minimum_seconds", "success_objective", "finish_by",
    "muted",
)  # fmt: skip
"""Columns of a job, and whether a maintenance window mutes it."""
PLAIN_COLUMNS = (
    "consecutive_failures", "runs_total", "retries_total",
    "failures_error", "failures_timeout", "failures_stopped", "failures_lost",
    "interrupted_total", "missed_overlap", "missed_downtime", "missed_deadline",
    "missed_paused", "missed_dependency",
    "duration_seconds_sum", "start_lag_seconds_sum",
    "last_duration_seconds", "cpu_seconds_total", "last_max_rss_bytes",
    "parts_done", "parts_total",
)  # fmt: skip
"""Numbers of the job state that are exported unchanged. NULL counts as 0."""
TIME_COLUMNS = (
    "last_started_at", "last_ended_at", "last_success_at", "last_failure_at", "next_run_at",
    "progress_at",
)  # fmt: skip
"""Times of the job state. NULL counts as 0."""
HISTOGRAMS = ("duration", "start_lag")
BUCKET_COLUMNS = tuple(f"{name}_buckets" for name in HISTOGRAMS)
"""Histogram buckets of the job state: JSON, read as text."""
STATE_COLUMNS = (
    "host", "lease_token", "blocked_reason", "last_status",
    *PLAIN_COLUMNS, *TIME_COLUMNS, *BUCKET_COLUMNS, "duration_count", "start_lag_count",
    "last_run_id", "last_run_seconds", "last_trace_id",
)  # fmt: skip
FORECAST_COLUMNS = ("deadline", "expected_finish")
"""Columns that :mod:`.forecasts` adds to the row of a placement: seconds since 1970, or None."""
NO_FORECAST: Row = (None,) * len(FORECAST_COLUMNS)
MONITOR_COLUMNS = (
    "pk", "name", "hostname", "kind", "unit", "operator", "threshold_warning", "threshold_critical",
)  # fmt: skip
"""Columns of a monitor's job and its probe."""
SAMPLE_COLUMNS = (
    "host", "severity", "value", "latency_seconds", "last_sample_at", "expected_low",
    "expected_high", "dropped_series", "series", "unit",
)  # fmt: skip
"""Columns of a monitor's state."""
HOST_COLUMNS = ("name", "last_tick_at", "tick_seconds", "running_jobs", "paused")

NAME = JOB_COLUMNS.index("name")
TIMEZONE = JOB_COLUMNS.index("timezone")
FINISH_BY = JOB_COLUMNS.index("finish_by")
HOSTNAME = JOB_COLUMNS.index("hostname")
N_JOB = len(JOB_COLUMNS)
HOST = N_JOB
NO_STATE: Row = (None,) * (len(STATE_COLUMNS) - 1)
"""The columns after ``host`` of a placement that the scheduler has not written yet."""
N_MONITOR = len(MONITOR_COLUMNS)
NO_SAMPLE: Row = (None,) * (len(SAMPLE_COLUMNS) - 1)
"""The columns after ``host`` of a monitor that was never measured."""

_SERIES = N_MONITOR + SAMPLE_COLUMNS.index("series")
_FAILURE_SERIES = {
    status: FAILURE_LABELS.index(reason.value) for status, reason in FAILURE_REASONS.items()
}
_COMMAND = JOB_COLUMNS.index("command")
_MINIMUM = JOB_COLUMNS.index("minimum_seconds")
_EPOCH = datetime(1970, 1, 1)  # naive, like the times that it is subtracted from
_RECURRENCE = re.compile(r"(?:DTSTART|RRULE|EXDATE|RDATE|EXRULE)[;:]|FREQ=", re.IGNORECASE)


class Exemplar(NamedTuple):
    """The run that a line of a family counted last, for OpenMetrics."""

    line: int
    run_id: int
    value: float
    at: float
    trace_id: str = ""
    """Empty if the run was not traced."""


@lru_cache(maxsize=4096)
def schedule_kind(text: str) -> str:
    """Return the kind of a schedule, from its form alone; the schedule may be invalid."""
    text = text.strip()
    if not text:
        return "none"
    if _RECURRENCE.match(text):
        return "recurrence"
    return "interval" if looks_like_interval(text) else "cron"


def job_texts(rows: Sequence[Row]) -> dict[str, Sequence[str]]:
    """Return the labels of ``chroniker_job_info``. No arguments: they may contain secrets."""
    cells = _transpose(JOB_COLUMNS, rows)
    return {
        "command": [
            command or task or next(iter(raw.split()), "")
            for command, task, raw in zip(
                cells["command"], cells["task"], cells["raw_command"], strict=True
            )
        ],
        "hostname": cells["hostname"],
        "kind": [schedule_kind(schedule) for schedule in cells["schedule"]],
        "schedule": cells["schedule"],
        "severity": cells["alert_severity"],
        "team": cells["team"],
        "timezone": cells["timezone"],
    }


def job_numbers(rows: Sequence[Row]) -> Numbers:
    """Return the numbers of job definitions."""
    cells = _transpose(JOB_COLUMNS, rows)
    return {
        "one": [1] * len(rows),
        "enabled": [int(enabled) for enabled in cells["enabled"]],
        "muted": [int(muted) for muted in cells["muted"]],
        "expected_seconds": cells["expected_seconds"],
        "timeout_seconds": cells["timeout_seconds"],
        "start_deadline_seconds": cells["start_deadline_seconds"],
        "failures_before_alert": cells["failures_before_alert"],
        "minimum_seconds": cells["minimum_seconds"],
        "success_objective": [
            None if percent is None else percent / 100 for percent in cells["success_objective"]
        ],
    }


def placement_numbers(rows: Sequence[Row], config: MetricsConfig, zone: tzinfo | None) -> Numbers:
    """Return the numbers of placements that this configuration exports."""
    families = config.families("placement")
    cells = _state_columns(rows)
    numbers: Numbers = {
        "running": [int(token is not None) for token in cells["lease_token"]],
        "progress_ratio": list(map(_ratio, cells["parts_done"], cells["parts_total"])),
        # None is negative unless a job reports such a progress.
        **{
            column: [number if number and number > 0 else 0 for number in cells[column]]
            for column in PLAIN_COLUMNS
        },
        **{column: timestamps(cells[column], zone) for column in TIME_COLUMNS},
        **_one_hot("blocked", cells["blocked_reason"], BLOCKED_LABELS),
        **_one_hot("status", cells["last_status"], FINAL_STATUSES),
        **{column: cells[column] for column in FORECAST_COLUMNS},
    }
    # The start of the last run, if it is still running.
    started = numbers.pop("last_started_at")
    numbers["started_at"] = [
        running and at for running, at in zip(numbers["running"], started, strict=True)
    ]
    for name in HISTOGRAMS:
        numbers[f"{name}_count"] = [number or 0 for number in cells[f"{name}_count"]]
    for family in families:
        if family.type == HISTOGRAM:
            name = family.number
            counts = cumulative(cells[f"{name}_buckets"], cells[f"{name}_count"], config.bounds)
            numbers |= _transpose(_bucket_numbers(name, config.bounds), counts)
    if config.detail == MetricsDetail.LOW:
        # The rules need it for monitors, and for jobs with a minimum, only.
        numbers["last_duration_seconds"] = [
            seconds if command == MONITOR_COMMAND or minimum is not None else None
            for seconds, command, minimum in zip(
                numbers["last_duration_seconds"],
                [row[_COMMAND] for row in rows],
                [row[_MINIMUM] for row in rows],
                strict=True,
            )
        ]
    return omit_usual(numbers, families)


def omit_usual(numbers: Numbers, families: Iterable[MetricFamily]) -> Numbers:
    """Drop the numbers that sparse families do not export."""
    for family in families:
        if family.sparse:
            for series in family.series(()):
                column = numbers[series.number]
                numbers[series.number] = [None if n == family.usual else n for n in column]
    return numbers


def fleet_numbers(rows: Sequence[Row], bounds: tuple[float, ...]) -> dict[str, float]:
    """Return the numbers of all placements together."""
    cells = _state_columns(rows)
    counts = cumulative(cells["start_lag_buckets"], cells["start_lag_count"], bounds)
    names = _bucket_numbers("start_lag", bounds)
    totals = map(sum, zip(*counts, strict=True)) if counts else repeat(0)
    return {
        **dict(zip(names, totals, strict=False)),
        "start_lag_count": sum(count or 0 for count in cells["start_lag_count"]),
        "start_lag_seconds_sum": sum(number or 0 for number in cells["start_lag_seconds_sum"]),
    }


def placement_exemplars(
    rows: Sequence[Row], bounds: tuple[float, ...], zone: tzinfo | None
) -> dict[str, list[Exemplar | None]]:
    """Return the last run of each placement, by name: for its duration, and for its failure."""
    cells = _state_columns(rows)
    runs = list(
        zip(
            cells["last_run_id"],
            cells["last_run_seconds"],
            timestamps(cells["last_ended_at"], zone),
            map(_FAILURE_SERIES.get, cells["last_status"]),
            [trace or "" for trace in cells["last_trace_id"]],
            strict=True,
        )
    )
    return {
        "duration": [
            Exemplar(bisect_left(bounds, seconds), run, seconds, at, trace)
            if run and at and seconds is not None
            else None
            for run, seconds, at, _, trace in runs
        ],
        "failures": [
            Exemplar(line, run, 1, at, trace) if run and at and line is not None else None
            for run, _, at, line, trace in runs
        ],
    }


def monitor_texts(rows: Sequence[Row]) -> dict[str, Sequence[str]]:
    """Return the labels of monitor definitions."""
    cells = _transpose(MONITOR_COLUMNS, rows)
    return {name: cells[name] for name in ("kind", "operator", "unit")}


def monitor_numbers(rows: Sequence[Row]) -> Numbers:
    """Return the numbers of monitor definitions."""
    cells = _transpose(MONITOR_COLUMNS, rows)
    return {
        "one": [1] * len(rows),
        **{name: _finite(cells[name]) for name in ("threshold_warning", "threshold_critical")},
    }


def sample_numbers(rows: Sequence[Row], zone: tzinfo | None) -> Numbers:
    """Return the numbers of the last measurements."""
    cells = _transpose(SAMPLE_COLUMNS, [row[N_MONITOR:] for row in rows])
    values = [
        value if dropped is None else None  # with groups, each of them has its own value
        for value, dropped in zip(cells["value"], cells["dropped_series"], strict=True)
    ]
    return {
        "severity": [severity or 0 for severity in cells["severity"]],
        "value": _finite(values),
        "latency_seconds": cells["latency_seconds"],
        "last_sample_at": timestamps(cells["last_sample_at"], zone),
        "expected_low": _finite(cells["expected_low"]),
        "expected_high": _finite(cells["expected_high"]),
        "dropped_series": cells["dropped_series"],
    }


class SeriesNumbers(NamedTuple):
    """The numbers of one group of a monitor, by name; None if it has none."""

    series: str
    numbers: dict[str, float | None]


def series_numbers(row: Row) -> list[SeriesNumbers]:
    """Return the numbers of the groups of a monitor, by name; none if it has no groups."""
    text = row[_SERIES]
    if not text or text == "[]":
        return []
    return [
        SeriesNumbers(
            each["name"],
            {
                "severity": each["severity"],
                "value": _finite_number(each["value"]),
                "expected_low": _finite_number(each.get("low")),
                "expected_high": _finite_number(each.get("high")),
            },
        )
        for each in json.loads(text)
        if each["name"]  # the one without a name is unknown while the probe fails
    ]


def _finite(column: Sequence[float | None]) -> Column:
    """Drop NaN and infinity: no probe gives them, but rows written by other code may."""
    return [_finite_number(number) for number in column]


def _finite_number(number: float | None) -> float | None:
    return None if number is None or not isfinite(number) else number + 0.0


def host_numbers(rows: Sequence[Row]) -> Numbers:
    """Return the numbers of hosts."""
    cells = _transpose(HOST_COLUMNS, rows)
    return {
        "last_tick_at": timestamps(cells["last_tick_at"], None),
        "tick_seconds": [seconds or 0 for seconds in cells["tick_seconds"]],
        "running_jobs": cells["running_jobs"],
        "paused": [int(paused) for paused in cells["paused"]],
    }


def timestamps(moments: Sequence[datetime | float | None], zone: tzinfo | None) -> list[float]:
    """Return seconds since 1970; 0 for None. Naive times are in ``zone``."""
    return [_seconds(moment, zone) if moment else 0 for moment in moments]


def _seconds(moment: datetime | float, zone: tzinfo | None) -> float:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is not None or zone is None:
        return moment.timestamp()
    if zone is UTC:  # the usual case, and twice as fast
        return (moment - _EPOCH).total_seconds()
    return moment.replace(tzinfo=zone).timestamp()


def _ratio(done: int | None, total: int | None) -> float:
    return min(max((done or 0) / total, 0), 1) if total and total > 0 else 0


def _one_hot(what: str, texts: Sequence[str], values: Sequence[str]) -> Numbers:
    return {f"{what}_{value}": [int(text == value) for text in texts] for value in values}


def _state_columns(rows: Sequence[Row]) -> dict[str, Any]:
    return _transpose((*STATE_COLUMNS, *FORECAST_COLUMNS), [row[HOST:] for row in rows])


def _transpose(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return the columns of the rows, by name."""
    return dict(zip(names, list(zip(*rows, strict=True)) or [()] * len(names), strict=True))


def cumulative(
    buckets: Iterable[str | None], counts: Iterable[int | None], bounds: tuple[float, ...]
) -> list[list[int]]:
    """Return, for each row, the observations at or below each bound, and last (+Inf) all of them.

    ``buckets`` are JSON: a bound, and the number of observations whose smallest bound it was. A
    bound that is no longer configured counts towards the next higher one, so no run is reported
    as faster than it was. A key that is not a number counts towards +Inf only.
    """
    index = _bucket_index(bounds)
    # Parsed as one document: ten thousand calls of the parser take three times as long.
    parsed = json.loads(f"[{','.join(text or '{}' for text in buckets)}]")
    return [
        _cumulative(counted, count or 0, index)
        for counted, count in zip(parsed, counts, strict=True)
    ]


def _cumulative(counted: object, count: int, index: _BucketBounds) -> list[int]:
    if not isinstance(counted, dict):
        counted = {}
    if not counted.keys() <= index.keys():
        counted = index.rebucket(counted)
    below = list(accumulate(map(counted.get, index, repeat(0))))
    return [*below, max(count, below[-1] if below else 0)]


class _BucketBounds(dict[str, float]):
    """The configured bounds, by the key under which ``chroniker.db.histograms`` stores them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__((repr(bound), bound) for bound in bounds)

    def rebucket(self, counted: Mapping[str, int]) -> dict[str, int]:
        """Return the counts by the bounds that are configured now."""
        names, bounds = tuple(self), tuple(self.values())
        found = dict.fromkeys(names, 0)
        for text, number in counted.items():
            try:
                bound = float(text)
            except ValueError:
                continue
            if not isnan(bound) and bound <= (bounds or (-inf,))[-1]:
                found[names[bisect_left(bounds, bound)]] += number
        return found


@lru_cache(maxsize=8)
def _bucket_index(bounds: tuple[float, ...]) -> _BucketBounds:
    return _BucketBounds(bounds)


@lru_cache(maxsize=8)
def _bucket_numbers(name: str, bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{name}_le_{limit}" for limit in bucket_labels(bounds))
