"""The calendar: when jobs start in the next day or week, when many start at once, and windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.formats import date_format
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.exceptions import ScheduleError
from chroniker.models import Job
from chroniker.schedules import Schedule, parse

from . import formats
from .calendar_windows import CalendarWindow, covered_hours, load_windows
from .start_counts import SharedSchedule, StartCounts, count_starts

MAX_JOBS = 5000
"""Jobs of which the page computes the starts."""
PILE_UPS = 10
_NAMES = 8
WIDTH = 860
_LEFT, _CELL = 60, 22
SPANS = {"day": 24, "week": 168}
SPAN_LABELS = {"day": gettext_lazy("Next 24 hours"), "week": gettext_lazy("Next 7 days")}


@dataclass(frozen=True, slots=True)
class Cell:
    """An hour."""

    x: float
    y: float
    width: float
    height: float
    number: int
    level: int
    """0 (none) to 4 (as many as in the busiest hour)."""
    paused: bool
    title: str

    @property
    def label(self) -> str:
        """The number, short enough for the cell."""
        if self.number < 1000:
            return str(self.number)
        thousands = self.number / 1000
        return f"{thousands:.1f}k" if thousands < 10 else f"{thousands:.0f}k"


@dataclass(frozen=True, slots=True)
class Calendar:
    """What the page shows."""

    cells: list[Cell]
    row_labels: list[tuple[float, str]]
    column_labels: list[tuple[float, str]]
    height: float
    pile_ups: list[dict[str, object]]
    windows: Sequence[CalendarWindow]
    jobs: int
    total: str
    not_compared: int
    averaged: int
    cut_off: bool
    width: int = WIDTH


def load_calendar(span: str, now: datetime) -> Calendar:
    """Compute the starts of all enabled jobs from the hour of ``now`` on; three queries."""
    hours = SPANS[span]
    begin = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = list(
        Job.objects.filter(enabled=True)
        .exclude(schedule="")
        .order_by("pk")
        .values_list("name", "schedule", "timezone")[: MAX_JOBS + 1]
    )
    counts = count_starts(_share_schedules(rows[:MAX_JOBS]), begin, hours)
    windows = load_windows(now, begin + timedelta(hours=hours))
    covered = covered_hours(windows, begin, hours)
    cells, row_labels, column_labels = _draw(counts, covered, span)
    return Calendar(
        cells=cells,
        row_labels=row_labels,
        column_labels=column_labels,
        height=max(cell.y + cell.height for cell in cells) + 20,
        pile_ups=_pile_up_rows(counts, now),
        windows=windows,
        jobs=len(rows[:MAX_JOBS]),
        total=str(intcomma(sum(counts.hours))),
        not_compared=counts.frequent + counts.averaged,
        averaged=counts.averaged,
        cut_off=len(rows) > MAX_JOBS,
    )


def _share_schedules(rows: Sequence[tuple[str, str, str]]) -> list[SharedSchedule]:
    names: dict[tuple[str, str, str], list[str]] = {}
    for name, schedule, zone in rows:
        hashed = name if "H" in schedule.upper() else ""  # only H depends on the name
        names.setdefault((schedule, zone, hashed), []).append(name)
    shared = []
    for key, jobs in names.items():
        parsed = _parse(*key)
        if parsed is not None:
            shared.append(SharedSchedule(parsed, jobs))
    return shared


@lru_cache(maxsize=8192)
def _parse(schedule: str, zone: str, name: str) -> Schedule | None:
    try:
        return parse(schedule, zone=zone, name=name)
    except ScheduleError:  # its own page says so
        return None


def _draw(
    counts: StartCounts, covered: set[int], span: str
) -> tuple[list[Cell], list[tuple[float, str]], list[tuple[float, str]]]:
    most = max(counts.hours) or 1
    per_row = 24 if span == "week" else 12
    step = (WIDTH - _LEFT) / per_row
    high = _CELL if span == "week" else 2 * _CELL
    cells = []
    rows: list[tuple[float, str]] = []
    columns: list[tuple[float, str]] = []
    for number, starts in enumerate(counts.hours):
        at = counts.begin + timedelta(hours=number)
        local = localtime(at)
        row, column = divmod(number, per_row)
        x, y = round(_LEFT + column * step, 1), 18 + row * (high + 2)
        if column == 0:
            rows.append((y + high / 2 + 4, date_format(local, "D H:i")))
        if row == 0 and column % (4 if span == "week" else 1) == 0:
            columns.append((x, date_format(local, "H:i")))
        title = _("%(hour)s: %(number)d starts") % {
            "hour": date_format(local, "D Y-m-d H:i"), "number": starts,
        }  # fmt: skip
        if number in covered:
            title += ", " + _("maintenance")
        cells.append(
            Cell(
                x=x,
                y=y,
                width=round(step - 2, 1),
                height=high,
                number=starts,
                level=-(-4 * starts // most),
                paused=number in covered,
                title=title,
            )
        )
    return cells, rows, columns


def _pile_up_rows(counts: StartCounts, now: datetime) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for minute, number, names in counts.pile_ups(PILE_UPS + 60):
        if minute + timedelta(minutes=1) <= now or len(rows) == PILE_UPS:
            continue  # of this hour, which has begun
        rows.append(
            {
                "when": formats.time_html(minute),
                "number": number,
                "names": names[:_NAMES],
                "more": max(0, len(names) - _NAMES),
            }
        )
    return rows
