"""The samples of a monitor over a span of time, in buckets for a chart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from django.db.models import Avg, Case, Count, IntegerField, Max, Min, QuerySet, Value, When
from django.db.models.functions import TruncHour
from django.utils.translation import gettext_lazy as _

from chroniker_monitors.baselines import Band
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Sample
from chroniker_monitors.thresholds import SEVERITY_ORDER, rank

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a chart goes; each of its buckets is ``step`` long."""

    name: str
    label: str | _StrPromise
    length: timedelta
    step: timedelta
    hours: bool
    """Whether the buckets are whole hours, which the database aggregates."""


SPANS = {
    span.name: span
    for span in (
        Span("hour", _("hour"), timedelta(hours=1), timedelta(minutes=1), hours=False),
        Span("day", _("day"), timedelta(days=1), timedelta(minutes=5), hours=False),
        Span("week", _("week"), timedelta(days=7), timedelta(hours=1), hours=True),
        Span("month", _("month"), timedelta(days=31), timedelta(hours=1), hours=True),
    )
}
_COLUMNS = ("at", "value", "severity", "expected_low", "expected_high")
_MAX_SAMPLES = 50_000
"""The maximum number of samples read for a day; one every two seconds stays below it."""


class _Point(NamedTuple):
    """A sample of a monitor or of one of its groups."""

    at: datetime
    value: float | None
    severity: int
    expected_low: float | None
    expected_high: float | None


@dataclass(frozen=True, slots=True)
class HistoryBucket:
    """The samples of one bucket; the values are None if all measurements failed."""

    at: datetime
    low: float | None
    mean: float | None
    high: float | None
    worst: Severity
    samples: int
    expected: Band | None = None
    """The values that were not unusual, if the operator learned them."""


def read_history(job: int, host: str, span: Span, now: datetime) -> list[HistoryBucket]:
    """Read the history up to ``now``, oldest first, without empty buckets."""
    samples = Sample.objects.for_placement(job, host).filter(at__gte=now - span.length, at__lte=now)
    if span.hours:
        return list(_by_hour(samples))
    rows = samples.order_by("at").values_list(*_COLUMNS)[:_MAX_SAMPLES]
    return list(_by_step((_Point(*row) for row in rows), span.step))


def read_series_history(
    job: int, host: str, names: Sequence[str], span: Span, now: datetime
) -> dict[str, list[HistoryBucket]]:
    """Read the history of some groups up to ``now``, by name."""
    samples = (
        Sample.objects.for_placement(job, host)
        .filter(at__gte=now - span.length, at__lte=now, series__isnull=False)
        .order_by("at")
        .values_list("at", "series")[:_MAX_SAMPLES]
    )
    points: dict[str, list[_Point]] = {name: [] for name in names}
    found: dict[str, list[HistoryBucket]] = {name: [] for name in names}
    bucket: float | None = None
    width = span.step.total_seconds()
    for at, series in samples.iterator(chunk_size=2000):
        assert series is not None
        if (start := at.timestamp() // width) != bucket:
            _move_buckets(points, found, span.step)
            bucket = start
        for name in names:
            if (each := series.get(name)) is not None:
                value, severity, low, high = (*each, None, None)[:4]
                points[name].append(_Point(at, value, severity, low, high))
    _move_buckets(points, found, span.step)
    return found


def _move_buckets(
    points: dict[str, list[_Point]], found: dict[str, list[HistoryBucket]], step: timedelta
) -> None:
    """Turn the points of one bucket into buckets, so that not all are held in memory."""
    for name, own in points.items():
        found[name] += _by_step(own, step)
        own.clear()


def _by_hour(samples: QuerySet[Sample]) -> Iterator[HistoryBucket]:
    ranks = [When(severity=severity, then=Value(rank(severity))) for severity in SEVERITY_ORDER]
    rows = (
        samples.order_by()
        .annotate(hour=TruncHour("at", tzinfo=UTC))
        .values("hour")
        .annotate(
            low=Min("value"),
            mean=Avg("value"),
            high=Max("value"),
            band_low=Avg("expected_low"),
            band_high=Avg("expected_high"),
            worst=Max(Case(*ranks, default=Value(0), output_field=IntegerField())),
            samples=Count("pk"),
        )
        .order_by("hour")
    )
    for row in rows:
        yield HistoryBucket(
            row["hour"],
            row["low"],
            row["mean"],
            row["high"],
            SEVERITY_ORDER[row["worst"]],
            row["samples"],
            _band(row["band_low"], row["band_high"]),
        )


def _band(low: float | None, high: float | None) -> Band | None:
    return None if low is None or high is None else Band(low, high)


def _by_step(points: Iterable[_Point], step: timedelta) -> Iterator[HistoryBucket]:
    width = step.total_seconds()
    for start, group in groupby(points, lambda point: point.at.timestamp() // width):
        yield _make_bucket(start * width, list(group))


def _make_bucket(begin: float, points: Sequence[_Point]) -> HistoryBucket:
    values = [point.value for point in points if point.value is not None]
    severities = [Severity(point.severity) for point in points]
    # The band changes once an hour, so the last one of a short bucket is that of all.
    return HistoryBucket(
        at=datetime.fromtimestamp(begin, UTC),
        low=min(values, default=None),
        mean=sum(values) / len(values) if values else None,
        high=max(values, default=None),
        worst=max(severities, key=rank),
        samples=len(severities),
        expected=_band(points[-1].expected_low, points[-1].expected_high),
    )
