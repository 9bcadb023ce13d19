"""The runs of the last 24 hours as a strip: one column for each hour."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import Count
from django.db.models.functions import TruncHour
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from chroniker.enums import FAILURE_REASONS, RunStatus
from chroniker.models import Run

HOURS = 24
WIDTH, HEIGHT = 860, 90
_TOP, _BOTTOM = 4, 18
_HALVES = 2
"""A column has failures above and the rest below, each on its own scale: one failure among a
thousand runs is still seen."""


@dataclass(frozen=True, slots=True)
class HourColumn:
    """The runs that ended in one hour."""

    x: float
    width: float
    succeeded: int
    failed: int
    other: int
    failed_y: float
    failed_height: float
    rest_y: float
    rest_height: float
    label: str
    """Empty for most hours."""
    title: str


@dataclass(frozen=True, slots=True)
class DayStrip:
    """The columns, oldest first, and their sums."""

    columns: list[HourColumn]
    succeeded: int
    failed: int
    other: int
    width: int = WIDTH
    height: int = HEIGHT
    middle: float = _TOP + (HEIGHT - _TOP - _BOTTOM) / _HALVES
    labels_at: int = HEIGHT - 4


def draw_day(now: datetime) -> DayStrip:
    """Count the runs by hour and outcome; one query."""
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    first = this_hour - timedelta(hours=HOURS - 1)
    # In UTC, because other zones need tables that few MariaDB servers have loaded.
    rows = (
        Run.objects.filter(ended_at__gte=first)
        .order_by()
        .annotate(hour=TruncHour("ended_at", tzinfo=UTC))
        .values_list("hour", "status")
        .annotate(number=Count("pk"))
    )
    counts: dict[datetime, Counter[str]] = {}
    for hour, status, number in rows:
        counts.setdefault(hour, Counter())[_outcome(status)] += number
    hours = [first + timedelta(hours=number) for number in range(HOURS)]
    per_hour = [counts.get(hour, Counter()) for hour in hours]
    most_failed = max(one["failed"] for one in per_hour) or 1
    most_rest = max(one["succeeded"] + one["other"] for one in per_hour) or 1
    half = (HEIGHT - _TOP - _BOTTOM) / _HALVES
    step = WIDTH / HOURS
    columns = []
    for number, (hour, count) in enumerate(zip(hours, per_hour, strict=True)):
        failed = round(half * count["failed"] / most_failed, 1)
        rest = round(half * (count["succeeded"] + count["other"]) / most_rest, 1)
        local = localtime(hour)
        columns.append(
            HourColumn(
                x=round(number * step + 2, 1),
                width=round(step - 4, 1),
                succeeded=count["succeeded"],
                failed=count["failed"],
                other=count["other"],
                failed_y=round(_TOP + half - failed, 1),
                failed_height=failed,
                rest_y=_TOP + half + 1,
                rest_height=rest,
                label=date_format(local, "H:i") if number % 4 == 0 else "",
                title=_("%(hour)s: %(succeeded)d succeeded, %(failed)d failed, %(other)d other")
                % {"hour": date_format(local, "D H:i"), "succeeded": count["succeeded"],
                   "failed": count["failed"], "other": count["other"]},
            )
        )  # fmt: skip
    total: Counter[str] = sum(per_hour, Counter())
    return DayStrip(columns, total["succeeded"], total["failed"], total["other"])


def _outcome(status: str) -> str:
    if status in FAILURE_REASONS:
        return "failed"
    return "succeeded" if status == RunStatus.SUCCEEDED else "other"
