"""The samples of a monitor over a span of time, in buckets for a chart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from django.db.models import Avg, Case, Count, IntegerField, Max, Min, QuerySet, Value, When
from django.db.models.functions import TruncHour
from django.utils.translation import gettext_lazy as _

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
_MAX_SAMPLES = 50_000
"""The maximum number of samples read for a day; one every two seconds stays below it."""


@dataclass(frozen=True, slots=True)
class HistoryBucket:
    """The samples of one bucket; the values are None if all measurements failed."""

    at: datetime
    low: float | None
    mean: float | None
    high: float | None
    worst: Severity
    samples: int


def read_history(job: int, host: str, span: Span, now: datetime) -> list[HistoryBucket]:
    """Read the history up to ``now``, oldest first, without empty buckets."""
    samples = Sample.objects.for_placement(job, host).filter(at__gte=now - span.length, at__lte=now)
    if span.hours:
        return list(_by_hour(samples))
    rows = samples.order_by("at").values_list("at", "value", "severity")[:_MAX_SAMPLES]
    return list(_by_step(rows, span.step))


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
        )


def _by_step(
    rows: Iterable[tuple[datetime, float | None, int]], step: timedelta
) -> Iterator[HistoryBucket]:
    width = step.total_seconds()
    begin: float | None = None
    values: list[float] = []
    severities: list[Severity] = []
    for at, value, severity in rows:
        bucket_start = at.timestamp() // width * width
        if begin is not None and bucket_start != begin:
            yield _make_bucket(begin, values, severities)
            values, severities = [], []
        begin = bucket_start
        severities.append(Severity(severity))
        if value is not None:
            values.append(value)
    if begin is not None:
        yield _make_bucket(begin, values, severities)


def _make_bucket(begin: float, values: list[float], severities: list[Severity]) -> HistoryBucket:
    return HistoryBucket(
        at=datetime.fromtimestamp(begin, UTC),
        low=min(values, default=None),
        mean=sum(values) / len(values) if values else None,
        high=max(values, default=None),
        worst=max(severities, key=rank),
        samples=len(severities),
    )
