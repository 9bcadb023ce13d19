"""From rows to the numbers that the families name. Pure."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from functools import lru_cache
from itertools import accumulate
from math import isnan, nan
from typing import Any

from chroniker.schedules.interval import looks_like_interval

from .families import BLOCKED_REASONS, LAST_STATUSES, limits

Row = tuple[Any, ...]
Numbers = dict[str, float]

JOB_COLUMNS = (
    "pk", "name", "command", "raw_command", "schedule", "timezone", "hostname", "enabled",
    "expected_seconds", "timeout_seconds", "start_deadline_seconds",
)  # fmt: skip
PLAIN_COLUMNS = (
    "consecutive_failures", "runs_total", "retries_total",
    "failures_error", "failures_timeout", "failures_stopped", "failures_lost",
    "missed_overlap", "missed_downtime", "missed_deadline",
    "duration_seconds_sum", "start_lag_seconds_sum",
    "last_duration_seconds", "cpu_seconds_total", "last_max_rss_bytes",
    "parts_done", "parts_total",
)  # fmt: skip
"""Of the state: numbers as they are; NULL is 0."""
TIME_COLUMNS = (
    "started_at", "last_ended_at", "last_success_at", "last_failure_at", "next_run_at",
    "progress_at",
)  # fmt: skip
"""Of the state: moments; NULL is 0."""
HISTOGRAMS = ("duration", "start_lag")
BUCKET_COLUMNS = tuple(f"{name}_buckets" for name in HISTOGRAMS)
"""Of the state: JSON, as text."""
STATE_COLUMNS = (
    "host", "lease_token", "blocked_reason", "last_status",
    *PLAIN_COLUMNS, *TIME_COLUMNS, *BUCKET_COLUMNS, "duration_count", "start_lag_count",
)  # fmt: skip
HOST_COLUMNS = ("name", "last_tick_at", "tick_seconds", "running_jobs", "paused")

NAME = JOB_COLUMNS.index("name")
HOSTNAME = JOB_COLUMNS.index("hostname")
N_JOB = len(JOB_COLUMNS)
HOST = N_JOB
NO_STATE: Row = (None,) * (len(STATE_COLUMNS) - 1)
"""What a slot that the runner has not written yet has after its host."""

_BLOCKED = {
    chosen: {f"blocked_{reason}": int(reason == chosen) for reason in BLOCKED_REASONS}
    for chosen in ("", *BLOCKED_REASONS)
}
_STATUS = {
    chosen: {f"status_{status}": int(status == chosen) for status in LAST_STATUSES}
    for chosen in ("", *LAST_STATUSES)
}
_RECURRENCE = re.compile(r"(?:DTSTART|RRULE|EXDATE|RDATE|EXRULE)[;:]|FREQ=", re.IGNORECASE)


def schedule_kind(text: str) -> str:
    """What kind of schedule it is, told by its form alone: it need not be a valid one."""
    text = text.strip()
    if not text:
        return "none"
    if _RECURRENCE.match(text):
        return "recurrence"
    return "interval" if looks_like_interval(text) else "cron"


def blocked_class(reason: str) -> str:
    """The class of a reason such as "dependency: waits for backup"."""
    word = reason.partition(":")[0].strip().lower()
    return word if word in BLOCKED_REASONS else "other"


def job_texts(row: Row) -> dict[str, str]:
    """The labels of ``chroniker_job_info``. Arguments are left out: they may hold secrets."""
    cells = dict(zip(JOB_COLUMNS, row, strict=False))
    return {
        "command": cells["command"] or next(iter(cells["raw_command"].split()), ""),
        "hostname": cells["hostname"],
        "kind": schedule_kind(cells["schedule"]),
        "schedule": cells["schedule"],
        "timezone": cells["timezone"],
    }


def job_numbers(row: Row) -> dict[str, float | None]:
    """What people defined."""
    cells = dict(zip(JOB_COLUMNS, row, strict=False))
    return {
        "one": 1,
        "enabled": int(cells["enabled"]),
        "expected_seconds": cells["expected_seconds"],
        "timeout_seconds": cells["timeout_seconds"],
        "start_deadline_seconds": cells["start_deadline_seconds"],
    }


def slot_numbers(row: Row, bounds: tuple[float, ...], histograms: bool) -> Numbers:
    """Where a job stands on a host slot."""
    cells = dict(zip(STATE_COLUMNS, row[HOST:], strict=True))
    running = cells["lease_token"] is not None
    blocked = cells["blocked_reason"]
    total, done = cells["parts_total"] or 0, cells["parts_done"] or 0
    numbers: Numbers = {
        "running": int(running),
        "progress_ratio": min(max(done / total, 0), 1) if total > 0 else 0,
        **{column: cells[column] or 0 for column in PLAIN_COLUMNS},
        **{
            column: moment.timestamp() if (moment := cells[column]) else 0
            for column in TIME_COLUMNS
        },
        **_BLOCKED[blocked_class(blocked) if blocked else ""],
        **_STATUS.get(cells["last_status"] or "", _STATUS[""]),
    }
    if not running:
        numbers["started_at"] = 0
    if histograms:
        for name in HISTOGRAMS:
            buckets, count = cells[f"{name}_buckets"] or "{}", cells[f"{name}_count"] or 0
            counts = cumulative(buckets, count, bounds)
            numbers.update(zip(_bucket_numbers(name, bounds), counts, strict=True))
    return numbers


def host_numbers(row: Row) -> Numbers:
    """How a machine does."""
    cells = dict(zip(HOST_COLUMNS, row, strict=True))
    return {
        "last_tick_at": cells["last_tick_at"].timestamp() if cells["last_tick_at"] else 0,
        "tick_seconds": cells["tick_seconds"] or 0,
        "running_jobs": cells["running_jobs"],
        "paused": int(cells["paused"]),
    }


def cumulative(buckets: str, count: int, bounds: tuple[float, ...]) -> list[int]:
    """How many lay at or below each bound, and last (+Inf) how many there were.

    ``buckets`` is JSON: bound to the number whose smallest bound it was. A bound that is no
    longer configured counts towards the next higher one, so nothing is ever said to have been
    faster than is known; what is no number counts towards +Inf only.
    """
    counts = [0] * (len(bounds) + 1)
    index = _bucket_index(bounds)
    counted = json.loads(buckets)
    for text, number in counted.items() if isinstance(counted, dict) else ():
        counts[index[text]] += number
    below = list(accumulate(counts[:-1]))
    return [*below, max(count, below[-1] if below else 0)]


class _BucketIndex(dict[str, int]):
    """Which of the bounds counts what was counted under this text."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        # As chroniker.buckets writes them, which keeps six digits.
        super().__init__((f"{bound:g}", index) for index, bound in enumerate(bounds))
        self.bounds = bounds

    def __missing__(self, text: str) -> int:
        try:
            bound = float(text)
        except ValueError:
            bound = nan
        return len(self.bounds) if isnan(bound) else bisect_left(self.bounds, bound)


@lru_cache(maxsize=8)
def _bucket_index(bounds: tuple[float, ...]) -> _BucketIndex:
    return _BucketIndex(bounds)


@lru_cache(maxsize=8)
def _bucket_numbers(name: str, bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{name}_le_{limit}" for limit in limits(bounds))
