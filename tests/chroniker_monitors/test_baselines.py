"""What is usual at an hour of the week: learned, widened, and found in a synthetic year."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker_monitors.backtest import Backtest, PastSample, run_backtest
from chroniker_monitors.baselines import (
    MAX_WEEKS,
    MIN_WEEKS,
    Baseline,
    HourHistory,
    LocalHour,
    WeeklyHistory,
    history_from_json,
    history_to_json,
    learn,
)
from chroniker_monitors.enums import Operator, Severity
from chroniker_monitors.thresholds import Rules, Thresholds

BERLIN = ZoneInfo("Europe/Berlin")
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
UNUSUAL = Thresholds(Operator.UNUSUAL, warning=2, critical=4)

values = st.floats(-1e9, 1e9)
weeks = st.lists(st.lists(values, min_size=1, max_size=20), max_size=8)


def test_few_weeks_or_samples_give_no_verdict() -> None:
    assert learn([[1.0] * 60] * (MIN_WEEKS - 1)).baseline is None
    assert learn([[1.0]] * MIN_WEEKS).baseline is None
    assert learn([[], [1.0] * 9, []]) == HourHistory(weeks=1, samples=9)
    assert learn([[1.0] * 60] * MIN_WEEKS).baseline is not None


def test_band_is_widened_around_the_median() -> None:
    baseline = Baseline(low=40, middle=60, high=95)
    assert (baseline.band(1).low, baseline.band(1).high) == (40, 95)
    assert (baseline.band(2).low, baseline.band(2).high) == (20, 130)


def test_constant_history_allows_a_small_difference() -> None:
    band = Baseline(100, 100, 100).band(2)
    assert 104 in band
    assert 105 not in band


def test_week_of_an_outage_does_not_become_usual() -> None:
    usual = [[50.0 + n % 10 for n in range(60)] for _ in range(3)]
    baseline = learn([*usual, [900.0] * 60]).baseline
    assert baseline is not None
    assert baseline.high < 60


def test_new_level_becomes_usual_after_some_weeks() -> None:
    old, new = [50.0 + n % 10 for n in range(60)], [90.0 + n % 10 for n in range(60)]
    baseline = learn([new, new, old, old]).baseline
    assert baseline is not None
    assert 95 in baseline.band(2)


@given(weeks, st.floats(1, 10))
def test_band_contains_the_median_and_grows_with_the_factor(
    found: list[list[float]], factor: float
) -> None:
    baseline = learn(found).baseline
    if baseline is None:
        return
    narrow, wide = baseline.band(1), baseline.band(factor)
    assert baseline.low <= baseline.middle <= baseline.high
    assert baseline.middle in narrow
    assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(weeks)
def test_history_survives_json(found: list[list[float]]) -> None:
    history = learn(found)
    assert history_from_json(history_to_json(history)) == history


@pytest.mark.parametrize("stored", [None, {}, [], ["a"] * 5, [1, 2, None, 3, 4], "xxxxx"])
def test_damaged_history_is_empty(stored: object) -> None:
    assert history_from_json(stored) == HourHistory()


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "UTC"]),
)
def test_hour_contains_exactly_its_moments(at: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    hour = LocalHour.of(at, zone)
    begin, end = hour.limits(zone)
    assert begin <= at < end
    assert WeeklyHistory(zone).hour_of(at) == hour


def test_hours_follow_the_clocks() -> None:
    """An hour of the night in spring does not exist, and one in autumn is two hours long."""
    skipped = LocalHour(datetime(2026, 3, 29).toordinal(), 2).limits(BERLIN)
    twice = LocalHour(datetime(2026, 10, 25).toordinal(), 2).limits(BERLIN)
    assert skipped[1] - skipped[0] == timedelta()
    assert twice[1] - twice[0] == timedelta(hours=2)


def test_history_is_of_the_same_hour_and_weekday() -> None:
    history = WeeklyHistory(UTC)
    for week in range(4):
        for minute in range(60):
            at = MONDAY + timedelta(weeks=week, hours=9, minutes=minute)
            history.add(at, 100 + minute % 5)
            history.add(at + timedelta(hours=1), 500)
            history.add(at + timedelta(days=1), 900)
    found = history.at(MONDAY + timedelta(weeks=4, hours=9, minutes=30))
    assert found.weeks == 4
    assert found.baseline is not None
    assert found.baseline == Baseline(100, 102, 104)
    assert history.at(MONDAY + timedelta(weeks=4, hours=11)).baseline is None


def test_history_ends_after_some_weeks() -> None:
    assert len(list(LocalHour.of(MONDAY, UTC).weeks_before())) == MAX_WEEKS


def synthetic_value(at: datetime, noise: random.Random, drift: float) -> float:
    """Orders of a shop: few at night and at weekends, more in the course of the year."""
    day = math.exp(-(((at.hour + at.minute / 60 - 14) / 5) ** 2))
    weekend = 0.45 if at.weekday() >= 5 else 1.0
    growth = 1 + 0.25 * (at - MONDAY) / timedelta(days=365)
    level = (20 + 180 * day * weekend) * growth
    return level * (1 + drift) + noise.gauss(0, 0.04 * level)


def synthetic_year(seed: int) -> tuple[list[PastSample], list[datetime]]:
    """Five-minute samples of a year, with 20 anomalies of an hour after the first two months.

    The noise is also correlated: each hour drifts with the one before it.
    """
    noise = random.Random(seed)
    starts = [
        MONDAY + timedelta(days=60 + 15 * number + noise.randrange(14), hours=noise.randrange(24))
        for number in range(20)
    ]
    factors = {start: noise.choice([0.3, 0.5, 1.7, 2.5]) for start in starts}
    drift, samples = 0.0, []
    for step in range(365 * 288):
        at = MONDAY + timedelta(minutes=5 * step)
        if at.minute == 0:
            drift = 0.7 * drift + noise.gauss(0, 0.02)
        value = synthetic_value(at, noise, drift)
        value *= factors.get(at.replace(minute=0), 1.0)
        samples.append(PastSample(at, value))
    return samples, starts


def count_found(result: Backtest, starts: list[datetime]) -> tuple[int, int]:
    """How many anomalies were found while they lasted, and how many incidents were none."""
    opened = [incident.opened_at for incident in result.incidents]
    hour = timedelta(hours=1)
    found = sum(any(start <= at < start + hour for at in opened) for start in starts)
    false = sum(not any(start <= at < start + hour for start in starts) for at in opened)
    return found, false


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_anomalies_of_a_year_are_found(seed: int) -> None:
    """At least 18 of 20, and at most one false alarm a month."""
    samples, starts = synthetic_year(seed)
    rules = Rules(Thresholds(Operator.UNUSUAL, warning=2.5, critical=4), consecutive=3, recovery=3)
    result = run_backtest(samples, rules, zone=UTC, max_series=50)
    found, false = count_found(result, starts)
    assert found >= 18
    assert false <= 12


def test_two_days_of_history_give_no_verdict() -> None:
    samples = [PastSample(MONDAY + timedelta(minutes=n), 50 + n % 7) for n in range(2 * 1440)]
    samples.append(PastSample(samples[-1].at + timedelta(minutes=1), 1e9))
    result = run_backtest(samples, Rules(UNUSUAL), zone=UTC, max_series=50)
    assert result.incidents == ()
    assert result.without_verdict == len(samples)


def test_severity_follows_the_factors() -> None:
    baseline = Baseline(low=40, middle=60, high=95)
    assert UNUSUAL.evaluate(95, baseline) is Severity.OK
    assert UNUSUAL.evaluate(140, baseline) is Severity.WARNING
    assert UNUSUAL.evaluate(210, baseline) is Severity.CRITICAL
    assert UNUSUAL.evaluate(-30, baseline) is Severity.CRITICAL
    assert UNUSUAL.evaluate(1e9, None) is Severity.OK
    assert UNUSUAL.evaluate(math.nan, baseline) is Severity.UNKNOWN
