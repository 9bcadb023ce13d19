"""The durations of a job's last runs as a chart; the template writes it as SVG, without scripts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from chroniker.enums import FAILURE_REASONS
from chroniker.models import Job, Run

from . import formats

WIDTH, HEIGHT = 860, 200
LEFT, RIGHT, TOP, BOTTOM = 70, 10, 22, 24
_GRID_LINES = 4
_LIMIT_SHARE = 4.0
"""A limit is drawn unless it is this many times the longest run: the bars would be invisible."""
_STEPS = (1, 2, 5, 10, 15, 30)


@dataclass(frozen=True, slots=True)
class DurationBar:
    """One run."""

    run: Run
    x: float
    y: float
    width: float
    height: float
    status: str
    failed: bool
    title: str

    @property
    def middle(self) -> float:
        """Where the mark of a failure is drawn."""
        return round(self.x + self.width / 2, 1)

    @property
    def mark_y(self) -> float:
        """Above the bar."""
        return self.y - 4


@dataclass(frozen=True, slots=True)
class ChartLine:
    """A horizontal line and its label."""

    y: float
    label: str
    name: str = "grid"


@dataclass(frozen=True, slots=True)
class DurationChart:
    """Bars from left to right, the newest last."""

    bars: list[DurationBar]
    lines: list[ChartLine]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM
    labels_at: int = HEIGHT - 6


def draw_durations(job: Job, runs: Sequence[Run]) -> DurationChart | None:
    """Draw the runs that have a duration; None if there is none. ``runs``: the newest first."""
    measured = [(run, run.duration_seconds) for run in reversed(runs)]
    known = [(run, seconds) for run, seconds in measured if seconds is not None]
    if not known:
        return None
    longest = max(seconds for _run, seconds in known)
    limits = [("expected", job.expected_seconds), ("timeout", job.timeout_seconds)]
    drawn = [(name, float(s)) for name, s in limits if s and s <= max(longest, 0.1) * _LIMIT_SHARE]
    top = max([longest, *(seconds for _name, seconds in drawn)]) or 1.0
    scale = (HEIGHT - TOP - BOTTOM) / top

    def to_y(seconds: float) -> float:
        return round(HEIGHT - BOTTOM - seconds * scale, 1)

    step = (WIDTH - LEFT - RIGHT) / max(len(known), 10)
    bars = [
        DurationBar(
            run=run,
            x=round(LEFT + number * step + step * 0.1, 1),
            y=min(to_y(seconds), HEIGHT - BOTTOM - 1),
            width=round(step * 0.8, 1),
            height=max(round(seconds * scale, 1), 1),
            status=run.status,
            failed=run.status in FAILURE_REASONS,
            title=f"{run.get_status_display()}, {formats.duration(seconds)}",
        )
        for number, (run, seconds) in enumerate(known)
    ]
    lines = [ChartLine(to_y(value), formats.duration(value)) for value in _grid_values(top)]
    lines += [
        ChartLine(to_y(s), f"{_limit_label(name)} {formats.duration(s)}", name) for name, s in drawn
    ]
    return DurationChart(bars, lines)


def _limit_label(name: str) -> str:
    return _("expected") if name == "expected" else _("timeout")


def _grid_values(top: float) -> Iterator[float]:
    """Round values up to the top: seconds, minutes or hours."""
    unit = next((u for u in (86400.0, 3600.0, 60.0) if top >= 2 * u), 1.0)
    raw = top / unit / _GRID_LINES
    power = 1.0 if 1 <= raw <= _STEPS[-1] else 10.0 ** math.floor(math.log10(raw or 1.0))
    step = next((s * power for s in _STEPS if s * power >= raw), 10 * power) * unit
    for number in range(1, 2 * _GRID_LINES):
        if step * number > top:
            return
        yield step * number
