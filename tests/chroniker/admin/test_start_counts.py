"""Starts by hour and minute, computed from schedules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chroniker.admin.start_counts import HOUR, SharedSchedule, count_starts
from chroniker.schedules import parse

BEGIN = datetime(2026, 5, 4, 12, tzinfo=UTC)


def shared(text: str, *names: str) -> SharedSchedule:
    return SharedSchedule(parse(text, zone="UTC"), names or ("job",))


def test_starts_are_counted_once_for_each_job() -> None:
    counts = count_starts([shared("0 13 * * *", "a", "b"), shared("30 * * * *", "c")], BEGIN, 4)
    assert counts.hours == [1, 3, 1, 1]
    assert counts.averaged == 0


def test_a_slot_at_the_beginning_counts_and_one_at_the_end_does_not() -> None:
    assert count_starts([shared("0 12,14 * * *")], BEGIN, 2).hours == [1, 0]


@pytest.mark.parametrize("text", ["* * * * *", "*/5 9-17 * * *", "0 * * * *", "@every 90s"])
def test_counting_by_hour_equals_counting_slot_by_slot(text: str) -> None:
    exact = [0] * 24
    slot = parse(text, zone="UTC").next(BEGIN - timedelta(microseconds=1))
    while slot is not None and slot < BEGIN + 24 * HOUR:
        exact[int((slot - BEGIN) / HOUR)] += 1
        slot = parse(text, zone="UTC").next(slot)
    assert count_starts([shared(text)], BEGIN, 24).hours == exact
    # Too much work for one by one, but not for a count of each hour.
    counted = count_starts([shared(text)], BEGIN, 24, work=96)
    assert counted.hours == exact
    assert counted.frequent == (sum(exact) > 96)


def test_without_work_left_frequent_schedules_are_averaged() -> None:
    counts = count_starts([shared("* * * * *"), shared("0 13 * * *")], BEGIN, 24, work=50)
    assert counts.averaged == 1
    assert sum(counts.hours) == 24 * 60 + 1
    assert counts.hours[1] == 61


def test_pile_ups_are_the_minutes_with_most_jobs() -> None:
    counts = count_starts(
        [shared("0 * * * *", "a", "b"), shared("0 13 * * *", "c"), shared("5 * * * *", "d")],
        BEGIN,
        3,
    )
    one, two, three = counts.pile_ups(10)
    assert one == (BEGIN + HOUR, 3, ["c", "a", "b"])
    assert [two[1], three[1]] == [2, 2]
    assert counts.pile_ups(1) == [one]


def test_schedule_with_seconds_is_one_job_in_a_minute() -> None:
    assert count_starts([shared("@every 10s")], BEGIN, 1).pile_ups(5) == []
