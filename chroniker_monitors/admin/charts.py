"""Compute charts on the server; the templates write them as SVG, without scripts.

This module has only numbers. Colours are classes in the style sheet, which follow the dark mode of
the admin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from itertools import pairwise

from django.utils.formats import date_format
from django.utils.timezone import localtime

from chroniker_monitors.enums import Severity

from .history import HistoryBucket, Span
from .values import format_value

SPARK_WIDTH, SPARK_HEIGHT = 120, 24
WIDTH, HEIGHT = 860, 240
LEFT, RIGHT, TOP, BOTTOM = 48, 30, 14, 44
"""The margins of a chart, for the labels of both axes and the strip of severities."""
STRIP = 8
_TICKS = 4
_LETTER = 6.2
"""The width of a letter of a label, at most."""


@dataclass(frozen=True, slots=True)
class Sparkline:
    """A chart of recent values, in the size of a word."""

    line: str
    """Points of a polyline."""
    marks: list[tuple[float, float, str]]
    """``(x, y, severity)`` of samples that are not ok."""
    width: int = SPARK_WIDTH
    height: int = SPARK_HEIGHT


def draw_sparkline(recent_values: Sequence[tuple[float | None, int]]) -> Sparkline | None:
    """Draw ``MonitorState.recent_values``; None if there are too few values for a line."""
    values = [value for value, _severity in recent_values if value is not None]
    if len(recent_values) < 2 or not values or not math.isfinite(max(values) - min(values)):
        return None
    scale = _Scale(min(values), max(values), 3, SPARK_HEIGHT - 3)
    step = (SPARK_WIDTH - 6) / (len(recent_values) - 1)
    points, marks = [], []
    for number, (value, severity) in enumerate(recent_values):
        x = round(3 + number * step, 1)
        y = scale(value) if value is not None else SPARK_HEIGHT / 2
        if value is not None:
            points.append(f"{x},{y}")
        if severity != Severity.OK:
            marks.append((x, y, Severity(severity).name.lower()))
    return Sparkline(" ".join(points), marks)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps a value to a y coordinate: ``high`` to ``top``, ``low`` to ``bottom``."""

    low: float
    high: float
    top: float
    bottom: float

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return round((self.top + self.bottom) / 2, 1)
        share = (value - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)


@dataclass(frozen=True, slots=True)
class AxisLabel:
    """A label of an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class ThresholdLine:
    """A threshold, as a horizontal line."""

    y: float
    severity: str
    label: str


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """A part of the line of a group between two gaps."""

    number: int
    """The place of its group, from 1: it decides the colour."""
    points: str


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a chart and the positions of its parts."""

    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM
    strip_at: int = HEIGHT - BOTTOM + 6
    strip_height: int = STRIP
    labels_at: int = HEIGHT - 8


@dataclass(slots=True)
class Chart:
    """A chart as its template draws it."""

    rows: list[HistoryBucket] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """Points of polylines, with a gap where nothing was measured."""
    bands: list[str] = field(default_factory=list)
    """Points of polygons between the lowest and the highest values."""
    expected: list[str] = field(default_factory=list)
    """Points of polygons of the values that were not unusual."""
    series: list[SeriesLine] = field(default_factory=list)
    """The lines of groups."""
    dots: list[tuple[float, float]] = field(default_factory=list)
    """Single buckets between two gaps."""
    strip: list[tuple[float, float, str]] = field(default_factory=list)
    """``(x, width, severity)`` of the worst severity of each bucket."""
    thresholds: list[ThresholdLine] = field(default_factory=list)
    x_labels: list[AxisLabel] = field(default_factory=list)
    y_labels: list[AxisLabel] = field(default_factory=list)
    frame: Frame = Frame()


def draw_chart(
    rows: list[HistoryBucket],
    thresholds: Sequence[tuple[Severity, float | None]],
    span: Span,
    now: datetime,
    unit: str,
    zone: tzinfo | None = None,
) -> Chart:
    """Draw a history and its thresholds, and the values that were expected."""
    chart = Chart(rows=rows)
    bounds = [value for _severity, value in thresholds if value is not None]
    expected = [row.expected for row in rows if row.expected is not None]
    bounds += [value for band in expected for value in (band.low, band.high)]
    axes = _draw_axes(chart, [rows], bounds, span, now, unit, zone)
    to_x, scale = axes.to_x, axes.scale
    chart.strip = _merge_strip([(to_x(r.at), to_x(r.at + span.step), r.worst) for r in rows])
    if scale is None:
        return chart
    chart.thresholds = [
        ThresholdLine(
            scale(value), severity.name.lower(), f"{severity.label} {format_value(value, unit)}"
        )
        for severity, value in thresholds
        if value is not None
    ]
    for group in _continuous_groups(rows, span.step):
        points = [(to_x(row.at + span.step / 2), row) for row in group]
        if len(points) == 1:
            x, row = points[0]
            chart.dots.append((x, scale(row.mean or 0.0)))
            continue
        chart.lines.append(_points((x, scale(row.mean or 0.0)) for x, row in points))
        if any(row.low != row.high for row in group):
            upper = [(x, scale(row.high or 0.0)) for x, row in points]
            lower = [(x, scale(row.low or 0.0)) for x, row in reversed(points)]
            chart.bands.append(_points(iter([*upper, *lower])))
    chart.expected = [
        _draw_band(group, to_x, scale, span.step) for group in _expected_groups(rows, span.step)
    ]
    return chart


def draw_series_chart(
    histories: Sequence[list[HistoryBucket]],
    thresholds: Sequence[tuple[Severity, float | None]],
    span: Span,
    now: datetime,
    unit: str,
    zone: tzinfo | None = None,
) -> Chart:
    """Draw one line for each group, in the order given."""
    chart = Chart(rows=[row for rows in histories for row in rows])
    bounds = [value for _severity, value in thresholds if value is not None]
    axes = _draw_axes(chart, histories, bounds, span, now, unit, zone)
    to_x, scale = axes.to_x, axes.scale
    if scale is None:
        return chart
    chart.thresholds = [
        ThresholdLine(
            scale(value), severity.name.lower(), f"{severity.label} {format_value(value, unit)}"
        )
        for severity, value in thresholds
        if value is not None
    ]
    for number, rows in enumerate(histories, 1):
        for group in _continuous_groups(rows, span.step):
            points = [(to_x(r.at + span.step / 2), scale(r.mean or 0.0)) for r in group]
            if len(points) == 1:  # a line needs two points; this one is as wide as its bucket
                x, y = points[0]
                points = [(x - 1.5, y), (x + 1.5, y)]
            chart.series.append(SeriesLine(number, _points(iter(points))))
    return chart


@dataclass(frozen=True, slots=True)
class _Axes:
    """The coordinates of a chart; without a scale there is nothing to draw."""

    to_x: Callable[[datetime], float]
    scale: _Scale | None


def _draw_axes(
    chart: Chart,
    histories: Sequence[list[HistoryBucket]],
    bounds: Sequence[float],
    span: Span,
    now: datetime,
    unit: str,
    zone: tzinfo | None,
) -> _Axes:
    """Set the frame and the labels of a chart. The left margin fits the widest label."""
    begin = now - span.length
    values = [
        value
        for rows in histories
        for row in rows
        for value in (row.low, row.high)
        if value is not None
    ]
    low, high = _value_range([*values, *bounds]) if values else (0.0, math.inf)
    scale = None
    if math.isfinite(high - low):  # otherwise there are no values, or the range is too large
        scale = _Scale(low, high, chart.frame.top, chart.frame.bottom)
        labels = [(value, format_value(value, unit)) for value in _axis_values(low, high)]
        widest = max((len(label) for _value, label in labels), default=0)
        chart.frame = replace(chart.frame, left=max(LEFT, round(widest * _LETTER) + 14))
        chart.y_labels = [AxisLabel(scale(value), label) for value, label in labels]
    frame = chart.frame

    def to_x(at: datetime) -> float:
        share = (at - begin) / span.length
        return round(frame.left + min(max(share, 0), 1) * (frame.right - frame.left), 1)

    chart.x_labels = [
        AxisLabel(to_x(at), label) for at, label in _axis_times(begin, now, span, zone)
    ]
    return _Axes(to_x, scale)


def _expected_groups(
    rows: Sequence[HistoryBucket], step: timedelta
) -> Iterator[list[HistoryBucket]]:
    """Group the rows that have a band; a gap starts a new group."""
    known = [replace(row, mean=0.0) if row.expected else replace(row, mean=None) for row in rows]
    yield from _continuous_groups(known, step)


def _draw_band(
    rows: Sequence[HistoryBucket],
    to_x: Callable[[datetime], float],
    scale: _Scale,
    step: timedelta,
) -> str:
    """Return the points of a polygon with a step at each bucket."""
    upper, lower = [], []
    for row in rows:
        assert row.expected is not None
        for x in (to_x(row.at), to_x(row.at + step)):
            upper.append((x, scale(row.expected.high)))
            lower.append((x, scale(row.expected.low)))
    return _points(iter([*upper, *reversed(lower)]))


def _merge_strip(pieces: Sequence[tuple[float, float, Severity]]) -> list[tuple[float, float, str]]:
    """Merge neighbours with the same severity."""
    strip: list[tuple[float, float, Severity]] = []
    for begin, end, worst in pieces:
        if strip and strip[-1][2] is worst and begin - strip[-1][1] < 1:
            strip[-1] = strip[-1][0], end, worst
        else:
            strip.append((begin, end, worst))
    return [
        (begin, round(max(end - begin, 1.0), 1), worst.name.lower()) for begin, end, worst in strip
    ]


def _points(pairs: Iterator[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in pairs)


def _continuous_groups(
    rows: Sequence[HistoryBucket], step: timedelta
) -> Iterator[list[HistoryBucket]]:
    """Group the rows with values; a gap starts a new group."""
    measured = [row for row in rows if row.mean is not None]
    # A monitor that measures rarely has buckets far apart, which is not a gap.
    apart = sorted(b.at - a.at for a, b in pairwise(measured))
    usual = max(apart[len(apart) // 2], step) if apart else step
    group: list[HistoryBucket] = []
    last: HistoryBucket | None = None
    for row in rows:
        if row.mean is None or (last is not None and row.at - last.at > 2.5 * usual):
            if group:
                yield group
            group = []
        if row.mean is not None:
            group.append(row)
            last = row
    if group:
        yield group


def _value_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        room = abs(low) * 0.1 or 1.0
        return low - room, high + room
    room = (high - low) * 0.08
    # Values near zero start at zero: a disk cannot be minus three percent full.
    return (0.0 if 0 <= low < room else low - room), high + room


def _axis_values(low: float, high: float) -> Iterator[float]:
    """Yield about four round numbers within a range."""
    raw = (high - low) / _TICKS
    if not raw or not math.isfinite(raw):
        return
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    value = math.ceil(low / step) * step
    for _number in range(2 * _TICKS):
        if value > high:
            return
        yield 0.0 if abs(value) < step / 1000 else value
        value += step


def _axis_times(
    begin: datetime, end: datetime, span: Span, zone: tzinfo | None
) -> Iterator[tuple[datetime, str]]:
    """Yield labelled times: ten minutes, three hours, midnights, or midnights before Mondays."""
    start = localtime(begin, zone).replace(minute=0, second=0, microsecond=0)
    if span.name == "hour":
        times = [start + timedelta(minutes=minutes) for minutes in range(0, 121, 10)]
    elif span.name == "day":
        times = [start + timedelta(hours=hours) for hours in range(26)]
        times = [time for time in times if time.hour % 3 == 0]
    else:
        midnight = start.replace(hour=0)
        times = [midnight + timedelta(days=days) for days in range(span.length.days + 2)]
        if span.name == "month":
            times = [time for time in times if time.weekday() == 0]
    label = "H:i" if span.length <= timedelta(days=1) else "D m-d"
    for time in times:
        if begin <= time <= end:
            yield time, date_format(time, label)
