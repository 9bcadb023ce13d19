"""What thresholds would have done to the stored samples of a monitor. Pure: no ORM, no clock.

The samples are evaluated again, and go through the state machine that live measurements go through
(:mod:`.thresholds`, :mod:`.series`). So the incidents are those that would have been opened, from
the state ok on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import NamedTuple

from .baselines import WeeklyHistory
from .enums import Severity
from .series import WHOLE, SeriesState, SeriesValue, advance_series, bad_series
from .thresholds import Rules, SeverityState, rank


class PastSample(NamedTuple):
    """A stored sample. A tuple, because there may be a hundred thousand.

    ``value`` is None if the measurement failed. ``values`` are those of the groups, and ``failed``
    whether they could not be measured; None if the monitor has no groups.
    """

    at: datetime
    value: float | None
    failed: bool = False
    values: Mapping[str, float | None] | None = None


@dataclass(slots=True)
class PastIncident:
    """The time from the first sample that was not ok until the recovery."""

    opened_at: datetime
    worst: Severity
    ended_at: datetime | None = None
    """None if it is still open after the last sample."""
    series: list[str] = field(default_factory=list)
    """The series that were bad, in the order in which they became so."""

    def length(self, until: datetime) -> timedelta:
        """Return how long it lasted, or has lasted ``until`` then."""
        return (self.ended_at or until) - self.opened_at


@dataclass(frozen=True, slots=True)
class Backtest:
    """The result for one set of thresholds."""

    samples: int
    begin: datetime | None
    """The time of the first sample; None if there are none."""
    end: datetime | None
    incidents: tuple[PastIncident, ...]
    without_verdict: int = 0
    """Samples for which there was not enough history to call them unusual."""

    @property
    def bad_time(self) -> timedelta:
        """The length of all incidents together."""
        if self.end is None:
            return timedelta()
        return sum((each.length(self.end) for each in self.incidents), timedelta())

    @property
    def span(self) -> timedelta:
        """The time between the first and the last sample."""
        return self.end - self.begin if self.begin and self.end else timedelta()

    @property
    def critical(self) -> int:
        """How many of the incidents became critical."""
        return sum(each.worst is Severity.CRITICAL for each in self.incidents)


def run_backtest(
    samples: Sequence[PastSample], rules: Rules, *, zone: tzinfo, max_series: int
) -> Backtest:
    """Apply rules to samples, oldest first."""
    recorder = _IncidentRecorder()
    if any(sample.values is not None for sample in samples):
        without_verdict = _replay_series(samples, rules, zone, max_series, recorder)
    else:
        without_verdict = _replay(samples, rules, zone, recorder)
    return Backtest(
        samples=len(samples),
        begin=samples[0].at if samples else None,
        end=samples[-1].at if samples else None,
        incidents=tuple(recorder.incidents),
        without_verdict=without_verdict,
    )


class _IncidentRecorder:
    """Turns severities into incidents."""

    def __init__(self) -> None:
        self.incidents: list[PastIncident] = []
        self._open: PastIncident | None = None

    def record(self, at: datetime, severity: Severity, series: Iterable[str] = ()) -> None:
        """Record the severity after a sample."""
        current = self._open
        if severity is Severity.OK:
            if current is not None:
                current.ended_at, self._open = at, None
            return
        if current is None:
            current = self._open = PastIncident(at, severity)
            self.incidents.append(current)
        if rank(severity) > rank(current.worst):
            current.worst = severity
        current.series += [name for name in series if name not in current.series]


def _replay(
    samples: Sequence[PastSample], rules: Rules, zone: tzinfo, recorder: _IncidentRecorder
) -> int:
    """Replay a monitor without groups. Return the number of samples without a verdict."""
    evaluate, without_verdict = rules.thresholds.evaluate, 0
    history = _history(samples, zone) if rules.thresholds.learns else None
    state = SeverityState()
    for sample in samples:
        if sample.value is None or sample.failed:
            measured = Severity.UNKNOWN
        elif history is None:
            measured = evaluate(sample.value)
        else:
            baseline = history.at(sample.at).baseline
            without_verdict += baseline is None
            measured = evaluate(sample.value, baseline)
        state, change = rules.advance(state, measured)
        if change:
            recorder.record(sample.at, state.severity)
    return without_verdict


def _history(samples: Sequence[PastSample], zone: tzinfo) -> WeeklyHistory:
    history = WeeklyHistory(zone)
    for sample in samples:
        if sample.value is not None and not sample.failed:
            history.add(sample.at, sample.value)
    return history


def _replay_series(
    samples: Sequence[PastSample],
    rules: Rules,
    zone: tzinfo,
    max_series: int,
    recorder: _IncidentRecorder,
) -> int:
    """Replay a monitor with groups. Return the number of values without a verdict."""
    evaluate = _series_evaluator(samples, rules, zone)
    states: tuple[SeriesState, ...] = ()
    without_verdict, quiet = 0, True
    known: set[str] = set()
    for sample in samples:
        # The same groups, and none is bad or about to be: the states would stay as they are.
        found = sample.values or {}
        same = quiet and not sample.failed and found.keys() == known
        if same and rules.thresholds.all_ok(found.values()):
            continue
        values: list[SeriesValue] | None = None
        if not sample.failed:
            values = []
            for name, value in found.items():
                severity = evaluate(name, value, sample.at)
                without_verdict += severity is None
                values.append(SeriesValue(name, value, severity or Severity.OK))
        step = advance_series(states, values, rules, now=sample.at, max_series=max_series)
        states = step.states
        severity = step.worst.severity
        quiet = all(each.severity_state == SeverityState() for each in states)
        known = {each.name for each in states} - {WHOLE}
        bad = bad_series(states, rules.thresholds) if severity is not Severity.OK else []
        recorder.record(sample.at, severity, [each.name for each in bad])
    return without_verdict


def _series_evaluator(
    samples: Sequence[PastSample], rules: Rules, zone: tzinfo
) -> Callable[[str, float | None, datetime], Severity | None]:
    """Return a function that evaluates one value; its result is None without enough history."""
    histories: dict[str, WeeklyHistory] = {}
    if rules.thresholds.learns:
        for sample in samples:
            for name, value in (sample.values or {}).items():
                if value is not None:
                    histories.setdefault(name, WeeklyHistory(zone)).add(sample.at, value)

    def evaluate(name: str, value: float | None, at: datetime) -> Severity | None:
        if value is None:
            return Severity.UNKNOWN
        if not rules.thresholds.learns:
            return rules.thresholds.evaluate(value)
        baseline = histories[name].at(at).baseline
        return None if baseline is None else rules.thresholds.evaluate(value, baseline)

    return evaluate
