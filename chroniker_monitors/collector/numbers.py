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

from .metrics import BLOCKED_LABELS, FAILURE_LABELS, FINAL_STATUSES, bucket_labels

Row = tuple[Any, ...]
"""A row as the database driver returned it; its columns have many types."""
Column = Sequence[float | None]
Numbers = dict[str, Column]
"""By name, one number per row; None if a row has none."""

JOB_COLUMNS = (
    "pk", "name", "command", "raw_command", "schedule", "timezone", "hostname", "enabled",
    "expected_seconds", "timeout_seconds", "start_deadline_seconds", "failures_before_alert",
    "muted",
)  # fmt: skip
"""Columns of a job, and whether a maintenance window mutes it."""
PLAIN_COLUMNS = (
    "consecutive_failures", "runs_total", "retries_total",
    "failures_error", "failures_timeout", "failures_stopped", "failures_lost",
    "interrupted_total", "missed_overlap", "missed_downtime", "missed_deadline",
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
    "last_run_id", "last_run_seconds",
)  # fmt: skip
MONITOR_COLUMNS = (
    "pk", "name", "hostname", "kind", "unit", "operator", "threshold_warning", "threshold_critical",
)  # fmt: skip
"""Columns of a monitor's job and its probe."""
SAMPLE_COLUMNS = ("host", "severity", "value", "latency_seconds", "last_sample_at", "unit")
"""Columns of a monitor's state."""
HOST_COLUMNS = ("name", "last_tick_at", "tick_seconds", "running_jobs", "paused")

NAME = JOB_COLUMNS.index("name")
HOSTNAME = JOB_COLUMNS.index("hostname")
N_JOB = len(JOB_COLUMNS)
HOST = N_JOB
NO_STATE: Row = (None,) * (len(STATE_COLUMNS) - 1)
"""The columns after ``host`` of a placement that the scheduler has not written yet."""
N_MONITOR = len(MONITOR_COLUMNS)
NO_SAMPLE: Row = (None,) * (len(SAMPLE_COLUMNS) - 1)
"""The columns after ``host`` of a monitor that was never measured."""

_FAILURE_SERIES = {
    status: FAILURE_LABELS.index(reason.value) for status, reason in FAILURE_REASONS.items()
}
_EPOCH = datetime(1970, 1, 1)  # naive, like the times that it is subtracted from
_RECURRENCE = re.compile(r"(?:DTSTART|RRULE|EXDATE|RDATE|EXRULE)[;:]|FREQ=", re.IGNORECASE)


class Exemplar(NamedTuple):
    """The run that a line of a family counted last, for OpenMetrics."""

    line: int
    run_id: int
    value: float
    at: float


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
            command or next(iter(raw.split()), "")
            for command, raw in zip(cells["command"], cells["raw_command"], strict=True)
        ],
        "hostname": cells["hostname"],
        "kind": [schedule_kind(schedule) for schedule in cells["schedule"]],
        "schedule": cells["schedule"],
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
    }


def placement_numbers(
    rows: Sequence[Row], bounds: tuple[float, ...], histograms: bool, zone: tzinfo | None
) -> Numbers:
    """Return the numbers of placements."""
    cells = _state_columns(rows)
    numbers: Numbers = {
        "running": [int(token is not None) for token in cells["lease_token"]],
        "progress_ratio": list(map(_ratio, cells["parts_done"], cells["parts_total"])),
        **{column: [number or 0 for number in cells[column]] for column in PLAIN_COLUMNS},
        **{column: timestamps(cells[column], zone) for column in TIME_COLUMNS},
        **_one_hot("blocked", cells["blocked_reason"], BLOCKED_LABELS),
        **_one_hot("status", cells["last_status"], FINAL_STATUSES),
    }
    # The start of the last run, if it is still running.
    started = numbers.pop("last_started_at")
    numbers["started_at"] = [
        running and at for running, at in zip(numbers["running"], started, strict=True)
    ]
    if histograms:
        for name in HISTOGRAMS:
            counts = cumulative(cells[f"{name}_buckets"], cells[f"{name}_count"], bounds)
            numbers |= _transpose(_bucket_numbers(name, bounds), counts)
    return numbers


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
            strict=True,
        )
    )
    return {
        "duration": [
            Exemplar(bisect_left(bounds, seconds), run, seconds, at)
            if run and at and seconds is not None
            else None
            for run, seconds, at, _ in runs
        ],
        "failures": [
            Exemplar(line, run, 1, at) if run and at and line is not None else None
            for run, _, at, line in runs
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
    return {
        "severity": [severity or 0 for severity in cells["severity"]],
        "value": _finite(cells["value"]),
        "latency_seconds": cells["latency_seconds"],
        "last_sample_at": timestamps(cells["last_sample_at"], zone),
    }


def _finite(column: Sequence[float | None]) -> Column:
    """Drop NaN and infinity: no probe gives them, but rows written by other code may."""
    return [None if number is None or not isfinite(number) else number + 0.0 for number in column]


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
    return _transpose(STATE_COLUMNS, [row[HOST:] for row in rows])


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
