"""A monitor's samples over a time, in as many pieces as a chart has room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Avg, Case, Count, IntegerField, Max, Min, Value, When
from django.db.models.functions import TruncHour
from django.utils.translation import gettext_lazy as _

from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Sample
from chroniker_monitors.thresholds import LADDER, rank


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a chart looks; each of its pieces is ``step`` long."""

    name: str
    label: Any
    length: timedelta
    step: timedelta
    hours: bool
    """Whether the pieces are whole hours, which the database puts together."""


SPANS = {
    span.name: span
    for span in (
        Span("hour", _("hour"), timedelta(hours=1), timedelta(minutes=1), hours=False),
        Span("day", _("day"), timedelta(days=1), timedelta(minutes=5), hours=False),
        Span("week", _("week"), timedelta(days=7), timedelta(hours=1), hours=True),
        Span("month", _("month"), timedelta(days=31), timedelta(hours=1), hours=True),
    )
}
_SAMPLES_READ = 50_000
"""Of a day, at most; a sample every two seconds is fewer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What was measured in one piece of the time; the values are None where nothing could be."""

    at: datetime
    low: float | None
    mean: float | None
    high: float | None
    worst: Severity
    samples: int


def pieces(job: int, host: str, span: Span, now: datetime) -> list[Piece]:
    """The history up to ``now``, oldest first; a piece without a sample is left out."""
    samples = Sample.objects.of(job, host).filter(at__gte=now - span.length, at__lte=now)
    if span.hours:
        return list(_by_hour(samples))
    rows = samples.order_by("at").values_list("at", "value", "severity")[:_SAMPLES_READ]
    return list(_by_step(rows, span.step))


def _by_hour(samples: Any) -> Iterator[Piece]:
    rungs = [When(severity=severity, then=Value(rank(severity))) for severity in LADDER]
    rows = (
        samples.order_by()
        .annotate(hour=TruncHour("at", tzinfo=UTC))
        .values("hour")
        .annotate(
            low=Min("value"),
            mean=Avg("value"),
            high=Max("value"),
            worst=Max(Case(*rungs, default=Value(0), output_field=IntegerField())),
            samples=Count("pk"),
        )
        .order_by("hour")
    )
    for row in rows:
        yield Piece(
            row["hour"], row["low"], row["mean"], row["high"], LADDER[row["worst"]], row["samples"]
        )


def _by_step(
    rows: Iterable[tuple[datetime, float | None, int]], step: timedelta
) -> Iterator[Piece]:
    width = step.total_seconds()
    begin: float | None = None
    values: list[float] = []
    severities: list[Severity] = []
    for at, value, severity in rows:
        here = at.timestamp() // width * width
        if begin is not None and here != begin:
            yield _piece(begin, values, severities)
            values, severities = [], []
        begin = here
        severities.append(Severity(severity))
        if value is not None:
            values.append(value)
    if begin is not None:
        yield _piece(begin, values, severities)


def _piece(begin: float, values: list[float], severities: list[Severity]) -> Piece:
    return Piece(
        at=datetime.fromtimestamp(begin, UTC),
        low=min(values, default=None),
        mean=sum(values) / len(values) if values else None,
        high=max(values, default=None),
        worst=max(severities, key=rank),
        samples=len(severities),
    )
