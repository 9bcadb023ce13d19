"""Parsing schedules, and what all kinds of them have in common."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from chroniker.exceptions import ScheduleError
from chroniker.schedules import Schedule, jitter, parse
from tests.support.schedules import NOW


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("*/5 * * * *", "cron"),
        ("@daily", "cron"),
        ("@every 90m", "interval"),
        ("1d12h", "interval"),
        ("RRULE:FREQ=DAILY", "recurrence"),
        ("DTSTART:20260101T090000\nRRULE:FREQ=DAILY", "recurrence"),
        ("freq=daily", "recurrence"),
        ("", "manual"),
        (" \n\t ", "manual"),
    ],
)
def test_kind_is_detected_from_the_text(text: str, kind: str) -> None:
    assert parse(text, zone="UTC").kind == kind


REFUSED = (
    ("0 0 31 2 *", "never fires"),
    ("0 0 30 2 */7", "never fires"),
    ("0 0 1 1 * 0 2020", "never fires"),
    ("DTSTART:20200101T000000 RRULE:FREQ=DAILY;COUNT=3", "never fires"),
    ("RRULE:FREQ=DAILY;UNTIL=20210101T000000", "never fires"),
    ("RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=31", "never fires"),
    ("RRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "never fires"),
    ("RRULE:FREQ=DAILY;INTERVAL=7;BYDAY=TU", "never fires"),
    ("RRULE:FREQ=HOURLY;INTERVAL=2;BYHOUR=1", "never fires"),
    ("RRULE:FREQ=MINUTELY;INTERVAL=120;BYHOUR=3", "never fires"),
    ("RRULE:FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6", "never fires"),
    ("DTSTART:20270101T090000 RRULE:FREQ=DAILY;COUNT=1 EXDATE:20270101T090000", "never fires"),
    ("R R * * *", "The minute is random"),
    ("0 R(1-5) * * *", "The hour is random"),
    ("0 0 * * R/2", "The day of week is random"),
    ("@reboot", "not tied to the start of a machine"),
    ("@fortnightly", "@weekly"),
    ("* * * *", "has 4 fields"),
    ("nonsense", "has 1 field."),
    ("* * * * * * * *", "has 8 fields"),
    ("60 * * * *", "“60” cannot be the minute. Accepted: 0 to 59"),
    ("0 24 * * *", "“24” cannot be the hour"),
    ("0 0 0 * *", "“0” cannot be the day of month"),
    ("0 0 * 13 *", "“13” cannot be the month"),
    ("0 0 * * MON,FRO", "“MON,FRO” cannot be the day of week"),
    ("0 0 * * 1,2#3", "“1,2#3” cannot be the day of week"),
    ("0 0 * * 0-6,2#3", "mixes plain weekdays"),
    ("0 0 * * * 60", "“60” cannot be the second"),
    ("0 0 * * * 0 2100", "“2100” cannot be the year"),
    ("1,,2 * * * *", "“1,,2” cannot be the minute"),
    (", * * * *", "“,” cannot be the minute"),
    ("*/0 * * * *", "“*/0” cannot be the minute"),
    ("H/0 * * * *", "“H/0” cannot be the minute"),
    ("H(50-70) * * * *", "“H(50-70)” cannot be the minute"),
    ("0 0 * * * 0 H", "The year cannot be hashed"),
    ("1.5 * * * *", "“1.5” cannot be the minute"),
    ("*\n* * * *", "U+000A"),
    ("* * * * \x00*", "U+0000"),
    ("*\u00a0* * * *", "U+00A0"),
    ("٣ * * * *", "U+0663"),
    ("0" * 256, "at most 255"),
    ("@every", "is not an interval"),
    ("@every 0s", "between one second and ten years"),
    ("@every 11000d", "between one second and ten years"),
    ("@every 1.5h", "write 90m"),
    ("@every 1h1h", "twice"),
    ("@every 1y", "is not an interval"),
    ("@every -5m", "is not an interval"),
    ("RRULE:", "not a part of an RRULE"),
    ("RRULE:FREQ=OFTEN", "must be one of SECONDLY"),
    ("RRULE:INTERVAL=2", "FREQ is “”"),
    ("RRULE:FREQ=DAILY;FREQ=DAILY", "FREQ is given twice"),
    ("RRULE:FREQ=DAILY;BYEASTER=1", "not a part of an RRULE"),
    ("RRULE:FREQ=DAILY;INTERVAL=0", "INTERVAL is “0”"),
    ("RRULE:FREQ=DAILY;COUNT=10001", "from 1 to 10000"),
    ("RRULE:FREQ=DAILY;COUNT=3;UNTIL=20280101", "cannot be combined"),
    ("RRULE:FREQ=DAILY;BYHOUR=24", "BYHOUR has “24”"),
    ("RRULE:FREQ=DAILY;BYHOUR=", "BYHOUR has “”"),
    ("RRULE:FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY has “0”"),
    ("RRULE:FREQ=WEEKLY;BYMONTHDAY=1", "cannot be used with FREQ=WEEKLY"),
    ("RRULE:FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=2", "cannot be used with FREQ=HOURLY"),
    ("RRULE:FREQ=MONTHLY;BYSETPOS=2", "needs another BY part"),
    ("RRULE:FREQ=WEEKLY;BYDAY=2MO", "numbers need FREQ=MONTHLY"),
    ("RRULE:FREQ=WEEKLY;BYDAY=XX", "BYDAY has “XX”"),
    ("RRULE:FREQ=DAILY;WKST=1", "WKST is “1”"),
    ("RRULE:FREQ=DAILY;UNTIL=tomorrow", "is not a date for UNTIL"),
    ("DTSTART:20260230T000000 RRULE:FREQ=DAILY", "not a date that exists"),
    ("DTSTART:00010101T000000 RRULE:FREQ=DAILY", "between the years 1900"),
    ("DTSTART;TZID=Asia/Tokyo:20260101T000000 RRULE:FREQ=DAILY", "own time zone, UTC, applies"),
    ("DTSTART:20260101T000000", "There is no RRULE"),
    ("RRULE:FREQ=DAILY RRULE:FREQ=DAILY", "RRULE is given twice"),
    ("RRULE:FREQ=DAILY RDATE:20260101T000000", "is not supported"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_invalid_schedule_is_rejected_with_reason_and_suggestion(text: str, reason: str) -> None:
    with pytest.raises(ScheduleError) as refusal:
        parse(text, zone="UTC")
    assert reason in str(refusal.value)
    assert "Accepted" in str(refusal.value)


def test_schedule_without_future_slots_is_rejected() -> None:
    text = "0 0 1 1 * 0 2030"
    assert parse(text, zone="UTC", after=datetime(2029, 1, 1, tzinfo=UTC))
    with pytest.raises(ScheduleError, match="never fires after 2031-01-01"):
        parse(text, zone="UTC", after=datetime(2031, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "Europe", "../secret", "\x00", "CET+1"])
def test_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match="is not a known time zone"):
        parse("@daily", zone=zone)


def test_misspelled_zone_gets_a_suggestion() -> None:
    with pytest.raises(ScheduleError, match="Did you mean Europe/Berlin"):
        parse("@daily", zone="Europe/Berln")


def test_zone_is_accepted_by_name_and_as_such() -> None:
    assert parse("@daily", zone="Asia/Tokyo") == parse("@daily", zone=ZoneInfo("Asia/Tokyo"))


@pytest.mark.parametrize("text", ["@daily", "@every 1h", "RRULE:FREQ=DAILY"])
def test_naive_datetimes_are_refused(text: str) -> None:
    schedule = parse(text, zone="UTC")
    naive = datetime(2026, 1, 1)
    with pytest.raises(ValueError, match="aware"):
        schedule.next(naive)
    with pytest.raises(ValueError, match="aware"):
        schedule.count(NOW, naive)
    with pytest.raises(ValueError, match="aware"):
        jitter("a", naive, 3)


def test_zone_of_the_argument_does_not_matter() -> None:
    schedule = parse("30 2 * * *", zone="Europe/Berlin")
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7, minutes=-30)))
    assert schedule.next(elsewhere) == schedule.next(NOW) == datetime(2026, 6, 4, 0, 30, tzinfo=UTC)


def test_fractions_of_a_second_neither_repeat_nor_skip_a_slot() -> None:
    schedule = parse("* * * * *", zone="UTC")
    minute = datetime(2026, 6, 3, 5, 8, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    assert schedule.next(minute - moment) == minute
    assert schedule.next(minute) == minute + timedelta(minutes=1)
    assert schedule.next(minute + moment) == minute + timedelta(minutes=1)
    assert schedule.latest(minute - moment, minute) == minute
    assert schedule.latest(minute, minute + moment) is None
    assert schedule.count(minute - moment, minute + moment) == 1


@pytest.mark.parametrize("text", ["* * * * *", "0 0 * * *", "RRULE:FREQ=MONTHLY", "@every 10d"])
def test_minimum_and_maximum_datetimes_are_not_an_error(text: str) -> None:
    schedule = parse(text, zone="America/New_York")
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert schedule.next(last) is None
    assert schedule.next(first)
    assert schedule.latest(last, first) is None
    assert schedule.count(last, first) == 0
    assert schedule.latest(NOW, last)


# -- H


# -- Intervals


# -- Recurrences


# -- Sentences and warnings


# -- Jitter


# -- As values


@pytest.mark.parametrize("text", ["", "@daily", "@every 1h", "RRULE:FREQ=MONTHLY;BYDAY=1MO"])
def test_schedules_are_values(text: str) -> None:
    schedule = parse(text, zone="Europe/Berlin")
    again = pickle.loads(pickle.dumps(schedule))
    assert isinstance(again, Schedule)
    assert again == schedule
    assert hash(again) == hash(schedule)
    assert again.next(NOW) == schedule.next(NOW)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.text = "other"  # type: ignore[misc]


def test_importing_schedules_imports_no_parser() -> None:
    code = (
        "import sys, chroniker.schedules as s; s.parse('@every 5m', zone='UTC');"
        "print(sorted({'croniter', 'dateutil', 'cron_descriptor', 'django'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
