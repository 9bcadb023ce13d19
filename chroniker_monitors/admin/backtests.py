"""The result of "Backtest", as the form shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from django.utils.translation import gettext as _

from chroniker.admin import formats
from chroniker.models import Job
from chroniker_monitors.backtest import Backtest, PastIncident
from chroniker_monitors.checking.past_samples import Comparison, compare_rules
from chroniker_monitors.thresholds import Rules

from .monitor_display import severity_badge

MAX_HOSTS = 6
"""The maximum number of placements that are tested."""
MAX_INCIDENTS = 20
"""The maximum number of incidents that are listed, newest first."""
STRIP_WIDTH, STRIP_HEIGHT = 860, 14


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An incident that would have been opened."""

    opened_at: str
    badge: str
    length: str
    is_open: bool
    series: str


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """What one set of thresholds would have done."""

    label: str
    incidents: int
    critical: int
    hours_bad: str
    longest: str
    strip: list[tuple[float, float, str]]
    """``(x, width, severity)`` of each incident."""
    without_verdict: int


@dataclass(frozen=True, slots=True)
class PlacementResult:
    """Stored and entered thresholds on one placement."""

    host: str
    samples: int
    begin: str
    end: str
    columns: list[ResultColumn]
    rows: list[IncidentRow]
    more: int
    """Incidents that are not listed."""
    learns: bool
    width: int = STRIP_WIDTH
    height: int = STRIP_HEIGHT


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The result for all placements, or why there is none."""

    placements: list[PlacementResult] = field(default_factory=list)
    error: str = ""


def backtest_form(job: Job, tested: Rules) -> BacktestResult:
    """Test the entered thresholds on the stored samples."""
    found = [
        _placement_result(job, comparison, tested)
        for comparison in islice(compare_rules(job, tested), MAX_HOSTS)
    ]
    if not found:
        return BacktestResult(error=_("There are no samples yet."))
    return BacktestResult(found)


def _placement_result(job: Job, comparison: Comparison, tested: Rules) -> PlacementResult:
    result = comparison.tested
    newest = list(reversed(result.incidents))
    return PlacementResult(
        host=comparison.host,
        samples=result.samples,
        begin=_time(result.begin, job),
        end=_time(result.end, job),
        columns=[
            _column(_("stored"), comparison.stored),
            _column(_("in the form"), result),
        ],
        rows=[_row(incident, result, job) for incident in newest[:MAX_INCIDENTS]],
        more=max(len(newest) - MAX_INCIDENTS, 0),
        learns=tested.thresholds.learns,
    )


def _time(at: datetime | None, job: Job) -> str:
    return formats.time_text(at, job.timezone) if at else formats.EMPTY


def _column(label: str, result: Backtest) -> ResultColumn:
    lengths = [each.length(result.end).total_seconds() for each in result.incidents if result.end]
    return ResultColumn(
        label=label,
        incidents=len(result.incidents),
        critical=result.critical,
        hours_bad=f"{result.bad_time.total_seconds() / 3600:.1f}",
        longest=formats.duration(max(lengths)) if lengths else formats.EMPTY,
        strip=list(_strip(result)),
        without_verdict=result.without_verdict,
    )


def _strip(result: Backtest) -> Iterator[tuple[float, float, str]]:
    span = result.span.total_seconds()
    if not span or result.begin is None or result.end is None:
        return
    for each in result.incidents:
        begin = (each.opened_at - result.begin).total_seconds() / span
        width = each.length(result.end).total_seconds() / span
        yield (
            round(begin * STRIP_WIDTH, 1),
            round(max(width * STRIP_WIDTH, 1.0), 1),
            each.worst.name.lower(),
        )


def _row(incident: PastIncident, result: Backtest, job: Job) -> IncidentRow:
    assert result.end is not None
    return IncidentRow(
        opened_at=_time(incident.opened_at, job),
        badge=severity_badge(incident.worst),
        length=formats.duration(incident.length(result.end).total_seconds()),
        is_open=incident.ended_at is None,
        series=", ".join(incident.series),
    )
