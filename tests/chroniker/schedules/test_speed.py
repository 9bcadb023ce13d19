"""Speed as ratios within one run, so that a slow machine does not fail the tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import process_time
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter

from chroniker.schedules import parse

# The numbers are for the default Python: on 3.13 croniter is 1.5 times as fast, and the
# ratio is 3.5 to 4.5.
pytestmark = pytest.mark.slow

ZONE = ZoneInfo("Europe/Berlin")
AFTER = datetime(2026, 6, 3, 5, 7, tzinfo=UTC)
WEEK = timedelta(days=7)


def seconds(call: Callable[[], object], times: int) -> float:
    """The fastest of several rounds, in CPU seconds per call: noise can only add time."""
    rounds = []
    for _ in range(7):
        start = process_time()
        for _ in range(times):
            call()
        rounds.append((process_time() - start) / times)
    return min(rounds)


@pytest.mark.parametrize(
    "text", ["* * * * *", "30 2 * * *", "*/15 8-18 * * MON-FRI", "0 0 29 2 *", "0 0 L * *"]
)
def test_next_is_at_least_five_times_as_fast_as_croniter(text: str) -> None:
    schedule = parse(text, zone=ZONE)
    local = AFTER.astimezone(ZONE)
    oracle = croniter(text, local)

    def times_as_fast() -> float:
        theirs = seconds(lambda: oracle.get_next(datetime, start_time=local), 40)
        return theirs / seconds(lambda: schedule.next(AFTER), 200)

    assert any(times_as_fast() > 5 for _ in range(20))  # 5.2 and more on a quiet machine


@pytest.mark.parametrize("text", ["* * * * *", "* * * * * *", "RRULE:FREQ=MINUTELY", "@every 1m"])
def test_counting_a_week_does_not_iterate(text: str) -> None:
    schedule = parse(text, zone=ZONE)
    one = seconds(lambda: schedule.next(AFTER), 200)
    assert schedule.count(AFTER, AFTER + WEEK) >= 10_080
    assert seconds(lambda: schedule.count(AFTER, AFTER + WEEK), 100) < 20 * one
    assert seconds(lambda: schedule.latest(AFTER, AFTER + WEEK), 100) < 20 * one


def test_counting_ten_years_is_a_thousand_times_faster_than_iterating() -> None:
    schedule = parse("* * * * *", zone=ZONE)
    until = AFTER.replace(year=2036)
    one = seconds(lambda: schedule.next(AFTER), 200)
    number = schedule.count(AFTER, until)
    assert number == (until - AFTER) // timedelta(minutes=1)
    assert seconds(lambda: schedule.count(AFTER, until), 2) * 1000 < number * one


def test_latest_slot_of_a_long_downtime_is_found_quickly() -> None:
    schedule = parse("0 0 29 2 *", zone=ZONE)
    one = seconds(lambda: schedule.next(AFTER), 200)
    until = datetime(2027, 12, 31, tzinfo=UTC)
    assert seconds(lambda: schedule.latest(datetime(1990, 1, 1, tzinfo=UTC), until), 100) < 20 * one


def test_impossible_schedule_is_rejected_quickly() -> None:
    for text in (
        "0 0 31 2 *",
        "RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=DAILY;INTERVAL=2;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=30",
        "RRULE:FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=30;BYHOUR=3;BYSECOND=30",
        "RRULE:FREQ=SECONDLY;INTERVAL=86400;BYHOUR=5",
        "RRULE:FREQ=MINUTELY;INTERVAL=7;BYYEARDAY=366;BYMONTH=1",
    ):
        start = process_time()
        with pytest.raises(ValueError, match="never fires"):
            parse(text, zone=ZONE)
        assert process_time() - start < 5


def test_rare_time_between_many_steps_is_found_quickly() -> None:
    """Two slots are four years apart, with seven seconds to try in each."""
    start = process_time()
    rule = "RRULE:FREQ=SECONDLY;INTERVAL=7;BYHOUR=3;BYMINUTE=0;BYSECOND=5;BYMONTH=2;BYMONTHDAY=29"
    found = parse(rule, zone=ZONE).upcoming(AFTER, 5)
    assert len(found) == 5
    assert process_time() - start < 5
