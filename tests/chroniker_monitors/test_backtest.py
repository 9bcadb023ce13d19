"""A backtest says what the state machine did."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from chroniker_monitors.backtest import Backtest, PastSample, run_backtest
from chroniker_monitors.baselines import LocalHour, WeeklyHistory
from chroniker_monitors.checking.measurement import Measurement, unknown_measurement
from chroniker_monitors.checking.outcome import apply_measurement
from chroniker_monitors.enums import Operator, Severity
from chroniker_monitors.models import MonitorState
from chroniker_monitors.series import SeriesValue
from chroniker_monitors.thresholds import Rules, Thresholds

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
ABOVE = Thresholds(Operator.ABOVE, 80, 90)
PLAIN = Rules(ABOVE)

numbers = st.one_of(st.none(), st.sampled_from([50.0, 85.0, 95.0]))
groups = st.one_of(
    st.none(), st.dictionaries(st.sampled_from("abcd"), st.sampled_from([50.0, 85.0, 95.0]))
)
rule_sets = st.builds(Rules, st.just(ABOVE), st.integers(1, 4), st.integers(1, 4))


def backtest(values: str, rules: Rules = PLAIN, every: timedelta = MINUTE) -> Backtest:
    """The result for S (50), W (85), F (95) and U (failed)."""
    found = {"S": 50.0, "W": 85.0, "F": 95.0, "U": None}
    samples = [PastSample(NOON + n * every, found[letter]) for n, letter in enumerate(values)]
    return run_backtest(samples, rules, zone=UTC, max_series=50)


def test_incidents_have_times_lengths_and_severities() -> None:
    result = backtest("SWWFSSSUSF", every=timedelta(hours=1))
    assert [
        (i.opened_at - NOON, i.length(NOON + timedelta(hours=9)), i.worst, i.ended_at is None)
        for i in result.incidents
    ] == [
        (timedelta(hours=1), timedelta(hours=3), Severity.CRITICAL, False),
        (timedelta(hours=7), timedelta(hours=1), Severity.UNKNOWN, False),
        (timedelta(hours=9), timedelta(), Severity.CRITICAL, True),
    ]
    assert (result.samples, result.critical) == (10, 2)
    assert result.bad_time == timedelta(hours=4)
    assert result.span == timedelta(hours=9)


def test_samples_in_a_row_are_counted() -> None:
    rules = Rules(ABOVE, consecutive=3, recovery=2)
    assert backtest("FFSFFSFF", rules).incidents == ()
    (incident,) = backtest("FFFSFSS", rules).incidents
    assert incident.opened_at == NOON + 2 * MINUTE
    assert incident.ended_at == NOON + 6 * MINUTE


def test_other_thresholds_give_other_incidents() -> None:
    assert len(backtest("SWSFSWS").incidents) == 3
    assert len(backtest("SWSFSWS", Rules(Thresholds(Operator.ABOVE, 90))).incidents) == 1
    assert backtest("SWSFSWS", Rules(Thresholds(Operator.ABOVE))).incidents == ()
    assert len(backtest("SWS", Rules(Thresholds(Operator.BELOW, 60))).incidents) == 2


def test_no_samples_give_an_empty_result() -> None:
    result = run_backtest([], Rules(ABOVE), zone=UTC, max_series=50)
    assert (result.samples, result.incidents, result.bad_time) == (0, (), timedelta())


def test_incident_names_the_groups_that_were_bad() -> None:
    samples = [
        PastSample(NOON + n * MINUTE, None, values=values)
        for n, values in enumerate([{"a": 50, "b": 95}, {"a": 95, "b": 95}, {"a": 95}, {"a": 50}])
    ]
    (incident,) = run_backtest(samples, Rules(ABOVE), zone=UTC, max_series=50).incidents
    assert incident.series == ["b", "a"]
    assert incident.ended_at == NOON + 3 * MINUTE


class LiveMonitor:
    """Records measurements as a check does, in memory, and notes its incidents."""

    def __init__(self, rules: Rules, max_series: int = 50) -> None:
        self.rules, self.max_series = rules, max_series
        self.state = MonitorState()
        self.history = WeeklyHistory(UTC)
        self.samples: list[PastSample] = []
        self.opened: list[list[datetime | None]] = []

    def record(self, measurement: Measurement, at: datetime) -> None:
        hour = LocalHour.of(at, UTC)
        outcome = apply_measurement(
            self.state, measurement, self.rules, now=at, max_series=self.max_series,
            histories={"": self.history.at(at)} if self.rules.thresholds.learns else {},
            hour=hour,
        )  # fmt: skip
        for column, value in outcome.state_columns.items():
            setattr(self.state, column, value)
        stored = outcome.sample_columns
        value, series = stored["value"], stored["series"]
        assert value is None or isinstance(value, float)
        values = None
        if isinstance(series, dict):
            values = {name: each[0] for name, each in series.items()}
        failed = not values and stored["severity"] == Severity.UNKNOWN
        self.samples.append(PastSample(at, value, failed, values))
        if outcome.change and outcome.change.before is Severity.OK:
            self.opened.append([at, None])
        elif outcome.change and outcome.change.is_recovery:
            self.opened[-1][1] = at


def replayed(monitor: LiveMonitor) -> list[list[datetime | None]]:
    result = run_backtest(monitor.samples, monitor.rules, zone=UTC, max_series=monitor.max_series)
    return [[incident.opened_at, incident.ended_at] for incident in result.incidents]


@given(st.lists(numbers, max_size=40), rule_sets)
def test_backtest_equals_live_recording(values: list[float | None], rules: Rules) -> None:
    monitor = LiveMonitor(rules)
    for number, value in enumerate(values):
        measurement = (
            unknown_measurement("refused")
            if value is None
            else Measurement(ABOVE.evaluate(value), value)
        )
        monitor.record(measurement, NOON + number * MINUTE)
    assert replayed(monitor) == monitor.opened


@example([{"a": 50.0}, None, {"a": 85.0}], Rules(ABOVE, 2, 1), 1)
@given(st.lists(groups, max_size=25), rule_sets, st.integers(1, 5))
def test_backtest_of_groups_equals_live_recording(
    history: list[dict[str, float] | None], rules: Rules, max_series: int
) -> None:
    monitor = LiveMonitor(rules, max_series)
    for number, values in enumerate(history):
        if values is None:
            measurement = unknown_measurement("refused")
        else:
            series = tuple(SeriesValue(n, v, ABOVE.evaluate(v)) for n, v in values.items())
            measurement = Measurement(Severity.OK, series=series)
        monitor.record(measurement, NOON + number * MINUTE)
    assert replayed(monitor) == monitor.opened


def test_backtest_of_learned_bands_equals_live_recording() -> None:
    """Two months of samples each quarter of an hour, with a rhythm and two jumps."""
    rules = Rules(Thresholds(Operator.UNUSUAL, 2, 4), consecutive=2, recovery=2)
    monitor = LiveMonitor(rules)
    quarter = timedelta(minutes=15)
    for number in range(60 * 96):
        at = NOON + number * quarter
        value = 100 + 50 * math.sin(at.hour / 24 * 2 * math.pi) + number * 7919 % 11
        if number in range(4000, 4012) or number in range(5000, 5020):
            value *= 3
        monitor.record(Measurement(Severity.OK, value), at)
        monitor.history.add(at, value)
    assert [opened for opened, _ in monitor.opened] == [NOON + n * quarter for n in (4001, 5001)]
    assert replayed(monitor) == monitor.opened


def test_month_of_minutes_takes_half_a_second() -> None:
    samples = [
        PastSample(NOON + n * MINUTE, 50 + 45 * math.sin(n / 200) + n % 7) for n in range(31 * 1440)
    ]
    began = time.process_time()
    result = run_backtest(samples, Rules(ABOVE, 3, 3), zone=UTC, max_series=50)
    assert time.process_time() - began < 0.5
    assert len(result.incidents) > 10
