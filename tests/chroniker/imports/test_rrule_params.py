"""Schedules of django-chroniker keep their times."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dateutil import rrule
from hypothesis import given, settings
from hypothesis import strategies as st

from chroniker.imports.rrule_params import ConvertedSchedule, NotConvertible, convert
from chroniker.schedules import parse

DATA = Path(__file__).parent / "data"
ORIGINAL: dict[str, list[str]] = json.loads((DATA / "original_occurrences.json").read_text())
"""Occurrences that django-chroniker 1.1 has computed itself, by "rule N FREQUENCY params"."""
NEXT_RUN = datetime(2026, 11, 30, 6, 15, tzinfo=UTC)
NOW = NEXT_RUN - timedelta(seconds=30)

WEEKDAYS = {name: n for n, name in enumerate(("MO", "TU", "WE", "TH", "FR", "SA", "SU"))}


def upcoming(found: ConvertedSchedule, now: datetime = NOW, n: int = 20) -> list[datetime]:
    schedule = parse(found.text, zone=found.zone, after=now)
    return schedule.upcoming(found.counts_from or now, n)


def chain(
    frequency: str, params: dict[str, Any], next_run: datetime, n: int = 20
) -> list[datetime]:
    """As Job.handle_run() of django-chroniker: each run is computed from the one before."""
    moments = [next_run]
    while len(moments) < n:
        rule = rrule.rrule(getattr(rrule, frequency), dtstart=moments[-1], **params)
        following = rule.after(moments[-1])
        if following is None:
            break
        moments.append(following)
    return moments


@pytest.mark.parametrize("name", ORIGINAL)
def test_occurrences_are_those_that_the_original_computed(name: str) -> None:
    _, _, frequency, params = name.split(" ", 3)
    expected = [datetime.fromisoformat(text) for text in ORIGINAL[name]]
    assert len(expected) == 20
    found = convert(frequency, params, NEXT_RUN, NOW, "UTC")
    if expected[1] in upcoming(found) and upcoming(found)[0] != NEXT_RUN:
        assert found.notes, "the first time was set by hand, and has to be mentioned"
        expected = expected[1:]
    assert upcoming(found)[: len(expected)] == expected


@pytest.mark.parametrize(
    ("frequency", "params", "text"),
    [
        ("DAILY", "", "15 6 * * *"),
        ("DAILY", "byhour:3,15;byminute:0;bysecond:0", "0 3,15 * * *"),
        ("DAILY", "byweekday:MO,TU,WE,TH,FR", "15 6 * * MON-FRI"),
        ("DAILY", "byhour:8;bymonth:1,2,3", "15 8 * 1-3 *"),
        ("DAILY", "interval:2", "@every 2d"),
        ("WEEKLY", "", "15 6 * * MON"),
        ("WEEKLY", "byweekday:SU,SA", "15 6 * * SAT,SUN"),
        ("MONTHLY", "", "15 6 30 * *"),
        ("MONTHLY", "bymonthday:-1", "15 6 L * *"),
        ("YEARLY", "bymonth:3,9;bymonthday:5", "15 6 5 3,9 *"),
        ("HOURLY", "", "15 * * * *"),
        ("HOURLY", "interval:2", "15 */2 * * *"),
        ("HOURLY", "interval:5", "@every 5h"),
        ("MINUTELY", "", "* * * * *"),
        ("MINUTELY", "interval:15", "*/15 * * * *"),
        ("MINUTELY", "interval:20", "15-59/20 * * * *"),
        ("MINUTELY", "interval:15;byhour:7,8,9", "*/15 7-9 * * *"),
        ("MINUTELY", "interval:7", "@every 7m"),
        ("SECONDLY", "interval:30", "* * * * * */30"),
        ("MONTHLY", "byweekday:FR;bysetpos:-1",
         "DTSTART:20261130T061500 RRULE:FREQ=MONTHLY;BYSETPOS=-1;BYDAY=FR"),
        ("MONTHLY", "bymonthday:1,2,3;byweekday:MO",
         "DTSTART:20261130T061500 RRULE:FREQ=MONTHLY;BYMONTHDAY=1,2,3;BYDAY=MO"),
    ],
)  # fmt: skip
def test_most_readable_form_is_chosen(frequency: str, params: str, text: str) -> None:
    try:
        assert convert(frequency, params, NEXT_RUN, NOW, "UTC").text == text
    except NotConvertible as error:
        pytest.fail(str(error))


PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "interval": st.integers(1, 50),
        "byhour": st.lists(st.integers(0, 23), min_size=1, max_size=4, unique=True),
        "byminute": st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True),
        "bymonth": st.lists(st.integers(1, 12), min_size=1, max_size=6, unique=True),
        "bymonthday": st.lists(st.integers(1, 28), min_size=1, max_size=5, unique=True),
        "byweekday": st.lists(st.integers(0, 6), min_size=1, max_size=6, unique=True),
    },
)


@settings(max_examples=40)  # dateutil takes long for some of them
@given(
    frequency=st.sampled_from(["MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    params=PARAMS,
    next_run=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),
    late=st.integers(-100_000, 100_000),
)
def test_any_rule_keeps_its_next_times(
    frequency: str, params: dict[str, Any], next_run: datetime, late: int
) -> None:
    next_run = next_run.replace(microsecond=0)
    now = next_run + timedelta(seconds=late)
    if params.get("interval", 1) > 1:  # otherwise some combinations have no time at all
        dropped = {"bymonth", "bymonthday"}
        if frequency in ("MINUTELY", "HOURLY", "DAILY"):
            dropped |= {"byhour", "byminute", "byweekday"}
        params = {name: value for name, value in params.items() if name not in dropped}
    text = ";".join(
        f"{name}:{','.join(map(str, v)) if isinstance(v, list) else v}"
        for name, v in params.items()
    )
    reference = rrule.rrule(getattr(rrule, frequency), dtstart=next_run, **params)
    expected = list(reference.xafter(now, count=20, inc=False))
    found = convert(frequency, text, next_run, now, "UTC")
    assert upcoming(found, now) == expected
    assert chain(frequency, params, expected[0]) == expected


@pytest.mark.parametrize(
    ("frequency", "params", "reason"),
    [
        ("FORTNIGHTLY", "", "no frequency"),
        ("DAILY", "byeaster:0", "byeaster has no counterpart"),
        ("DAILY", "until:5", "until has no counterpart"),
        ("DAILY", "byhour", "not a parameter"),
        ("DAILY", "byhour:eight", "not a number"),
        ("DAILY", "interval:1,2", "several values"),
        ("DAILY", "interval:0", "."),
        ("DAILY", "byhour:25", "."),
        ("DAILY", "bymonthday:31;bymonth:2", "never fires"),
    ],
)
def test_what_cannot_be_converted_says_why(frequency: str, params: str, reason: str) -> None:
    with pytest.raises(NotConvertible, match=reason):
        convert(frequency, params, NEXT_RUN, NOW, "UTC")


def test_count_began_again_with_each_run_and_is_left_out() -> None:
    found = convert("DAILY", "count:5", NEXT_RUN, NOW, "UTC")
    assert found.text == "15 6 * * *"
    assert "count" in found.notes[0]


def test_count_of_one_runs_once() -> None:
    found = convert("DAILY", "count:1", NEXT_RUN, NOW, "UTC")
    assert upcoming(found) == [NEXT_RUN]
    with pytest.raises(NotConvertible, match="over"):
        convert("DAILY", "count:1", NEXT_RUN, NEXT_RUN + timedelta(days=1), "UTC")


def test_next_run_far_away_is_not_started_before() -> None:
    now = NEXT_RUN - timedelta(days=90)
    found = convert("DAILY", "", NEXT_RUN, now, "UTC")
    assert upcoming(found, now)[0] == NEXT_RUN


def test_next_run_of_years_ago_costs_little_and_keeps_the_grid() -> None:
    old = datetime(2011, 3, 3, 3, 3, 3, tzinfo=UTC)
    found = convert("MINUTELY", "interval:7", old, NOW, "UTC")
    assert (upcoming(found)[0] - old).total_seconds() % 420 == 0
    assert timedelta() < upcoming(found)[0] - NOW <= timedelta(minutes=7)


def test_rule_of_a_site_without_time_zones_keeps_local_time() -> None:
    next_run = datetime(2026, 3, 27, 8, tzinfo=UTC)  # 9:00 in Berlin, and 9:00 after the change
    found = convert("DAILY", "interval:2", next_run, next_run - timedelta(hours=1), "Europe/Berlin")
    assert [moment.hour for moment in upcoming(found, next_run - timedelta(hours=1), 3)] == [
        8,
        7,
        7,
    ]
