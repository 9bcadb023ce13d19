"""What is accepted, what is refused, and what is said about it."""

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

NOW = datetime(2026, 6, 3, 5, 7, 30, tzinfo=UTC)  # a Wednesday


def slots(text: str, n: int = 3, *, zone: str = "UTC", name: str = "") -> list[str]:
    return [
        f"{slot:%a %d %b %Y %H:%M:%S}"
        for slot in parse(text, zone=zone, name=name).upcoming(NOW, n)
    ]


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0 * * *", ["Thu 04 Jun 2026 00:00:00", "Fri 05 Jun 2026 00:00:00"]),
        ("  0\t12  *  *  SUN  ", ["Sun 07 Jun 2026 12:00:00", "Sun 14 Jun 2026 12:00:00"]),
        ("@Hourly", ["Wed 03 Jun 2026 06:00:00", "Wed 03 Jun 2026 07:00:00"]),
        ("@midnight", ["Thu 04 Jun 2026 00:00:00", "Fri 05 Jun 2026 00:00:00"]),
        ("@weekly", ["Sun 07 Jun 2026 00:00:00", "Sun 14 Jun 2026 00:00:00"]),
        ("@monthly", ["Wed 01 Jul 2026 00:00:00", "Sat 01 Aug 2026 00:00:00"]),
        ("@yearly", ["Fri 01 Jan 2027 00:00:00", "Sat 01 Jan 2028 00:00:00"]),
        ("@ANNUALLY", ["Fri 01 Jan 2027 00:00:00", "Sat 01 Jan 2028 00:00:00"]),
        ("0 0 1 jan,JUL *", ["Wed 01 Jul 2026 00:00:00", "Fri 01 Jan 2027 00:00:00"]),
        ("0 0 L * *", ["Tue 30 Jun 2026 00:00:00", "Fri 31 Jul 2026 00:00:00"]),
        ("0 0 * * L5", ["Fri 26 Jun 2026 00:00:00", "Fri 31 Jul 2026 00:00:00"]),
        ("0 0 * * MON#2", ["Mon 08 Jun 2026 00:00:00", "Mon 13 Jul 2026 00:00:00"]),
        ("0 0 * * 1#5", ["Mon 29 Jun 2026 00:00:00", "Mon 31 Aug 2026 00:00:00"]),
        ("0 0 1W * *", ["Wed 01 Jul 2026 00:00:00", "Mon 03 Aug 2026 00:00:00"]),
        ("0 22-2/2 * * *", ["Wed 03 Jun 2026 22:00:00", "Thu 04 Jun 2026 00:00:00"]),
        ("7-7 * * * *", ["Wed 03 Jun 2026 06:07:00", "Wed 03 Jun 2026 07:07:00"]),
        ("* * * * * */20", ["Wed 03 Jun 2026 05:07:40", "Wed 03 Jun 2026 05:08:00"]),
        ("0 0 1 1 * 30 2031,2029", ["Mon 01 Jan 2029 00:00:30", "Wed 01 Jan 2031 00:00:30"]),
        ("0 0 13 * FRI", ["Fri 05 Jun 2026 00:00:00", "Fri 12 Jun 2026 00:00:00"]),
        ("0 0 */9 * FRI", ["Fri 19 Jun 2026 00:00:00", "Fri 10 Jul 2026 00:00:00"]),
        ("0 0 29 2 *", ["Tue 29 Feb 2028 00:00:00", "Sun 29 Feb 2032 00:00:00"]),
        ("0 0 29 2 */7", ["Sun 29 Feb 2032 00:00:00", "Sun 29 Feb 2060 00:00:00"]),
    ],
)  # fmt: skip
def test_slots_of_cron_expressions(text: str, expected: list[str]) -> None:
    assert slots(text, 2) == expected


def test_a_leap_day_on_a_weekday_is_found_across_a_century_without_one() -> None:
    schedule = parse("0 0 29 2 */7", zone="UTC")
    assert schedule.next(datetime(2088, 3, 1, tzinfo=UTC)) == datetime(2128, 2, 29, tzinfo=UTC)


def test_a_schedule_ends_with_its_last_year() -> None:
    schedule = parse("0 0 31 12 * 0 2027", zone="UTC")
    assert schedule.upcoming(NOW) == [datetime(2027, 12, 31, tzinfo=UTC)]
    assert schedule.latest(NOW, datetime(2040, 1, 1, tzinfo=UTC)) == datetime(
        2027, 12, 31, tzinfo=UTC
    )
    assert schedule.count(NOW, datetime(2040, 1, 1, tzinfo=UTC)) == 1


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
    ("@reboot", "no machine whose start"),
    ("@fortnightly", "@weekly"),
    ("* * * *", "has 4 fields"),
    ("nonsense", "has 1 field."),
    ("* * * * * * * *", "has 8 fields"),
    ("60 * * * *", "“60” cannot be the minute. Accepted are 0 to 59"),
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
    ("RRULE:FREQ=OFTEN", "has to be one of SECONDLY"),
    ("RRULE:INTERVAL=2", "FREQ is “”"),
    ("RRULE:FREQ=DAILY;FREQ=DAILY", "FREQ is there twice"),
    ("RRULE:FREQ=DAILY;BYEASTER=1", "not a part of an RRULE"),
    ("RRULE:FREQ=DAILY;INTERVAL=0", "INTERVAL is “0”"),
    ("RRULE:FREQ=DAILY;COUNT=10001", "from 1 to 10000"),
    ("RRULE:FREQ=DAILY;COUNT=3;UNTIL=20280101", "exclude each other"),
    ("RRULE:FREQ=DAILY;BYHOUR=24", "BYHOUR has “24”"),
    ("RRULE:FREQ=DAILY;BYHOUR=", "BYHOUR has “”"),
    ("RRULE:FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY has “0”"),
    ("RRULE:FREQ=WEEKLY;BYMONTHDAY=1", "does not go with FREQ=WEEKLY"),
    ("RRULE:FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=2", "does not go with FREQ=HOURLY"),
    ("RRULE:FREQ=MONTHLY;BYSETPOS=2", "needs another BY part"),
    ("RRULE:FREQ=WEEKLY;BYDAY=2MO", "numbers go with FREQ=MONTHLY"),
    ("RRULE:FREQ=WEEKLY;BYDAY=XX", "BYDAY has “XX”"),
    ("RRULE:FREQ=DAILY;WKST=1", "WKST is “1”"),
    ("RRULE:FREQ=DAILY;UNTIL=tomorrow", "is not a date for UNTIL"),
    ("DTSTART:20260230T000000 RRULE:FREQ=DAILY", "not a date that exists"),
    ("DTSTART:00010101T000000 RRULE:FREQ=DAILY", "years from 1900"),
    ("DTSTART;TZID=Asia/Tokyo:20260101T000000 RRULE:FREQ=DAILY", "own time zone, UTC, holds"),
    ("DTSTART:20260101T000000", "There is no RRULE"),
    ("RRULE:FREQ=DAILY RRULE:FREQ=DAILY", "RRULE is there twice"),
    ("RRULE:FREQ=DAILY RDATE:20260101T000000", "is not understood"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_cannot_work_is_refused_with_the_reason_and_what_would_be_accepted(
    text: str, reason: str
) -> None:
    with pytest.raises(ScheduleError) as refusal:
        parse(text, zone="UTC")
    assert reason in str(refusal.value)
    assert "Accepted" in str(refusal.value)


def test_a_schedule_in_the_past_is_refused_by_the_moment_that_is_given() -> None:
    text = "0 0 1 1 * 0 2030"
    assert parse(text, zone="UTC", after=datetime(2029, 1, 1, tzinfo=UTC))
    with pytest.raises(ScheduleError, match="never fires after 2031-01-01"):
        parse(text, zone="UTC", after=datetime(2031, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("zone", ["Europe/Berln", "", "Europe", "../secret", "\x00", "CET+1"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match="is not a time zone known here"):
        parse("@daily", zone=zone)


def test_misspelled_zone_gets_a_suggestion() -> None:
    with pytest.raises(ScheduleError, match="Is Europe/Berlin meant"):
        parse("@daily", zone="Europe/Berln")


def test_a_zone_is_accepted_by_name_and_as_such() -> None:
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


def test_the_zone_of_the_moment_asked_about_does_not_matter() -> None:
    schedule = parse("30 2 * * *", zone="Europe/Berlin")
    elsewhere = NOW.astimezone(timezone(timedelta(hours=-7, minutes=-30)))
    assert schedule.next(elsewhere) == schedule.next(NOW) == datetime(2026, 6, 4, 0, 30, tzinfo=UTC)


def test_fractions_of_a_second_neither_repeat_nor_lose_a_slot() -> None:
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
def test_the_ends_of_time_are_no_error(text: str) -> None:
    schedule = parse(text, zone="America/New_York")
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert schedule.next(last) is None
    assert schedule.next(first)
    assert schedule.latest(last, first) is None
    assert schedule.count(last, first) == 0
    assert schedule.latest(NOW, last)


# -- H


def test_a_hashed_job_has_the_same_slots_always() -> None:
    # These values must never change: they would move every hashed job of every site.
    assert slots("H H * * *", 1, name="nightly import") == ["Wed 03 Jun 2026 20:32:00"]
    assert slots("H/15 * * * *", 2, name="nightly import") == [
        "Wed 03 Jun 2026 05:17:00",
        "Wed 03 Jun 2026 05:32:00",
    ]
    assert slots("H(0-9) H(1-3) H * *", 1, name="nightly import") == ["Wed 10 Jun 2026 03:02:00"]
    assert slots("0 0 * * H H", 1, name="Grüße") == ["Thu 04 Jun 2026 00:00:40"]


def test_names_spread_over_hour_and_minute() -> None:
    schedules = [parse("H H * * *", zone="UTC", name=f"job {n}") for n in range(300)]
    times = {schedule.next(NOW) for schedule in schedules}
    assert len(times) > 250


def test_a_hashed_day_of_the_month_is_one_that_every_month_has() -> None:
    for n in range(60):
        schedule = parse("0 0 H * *", zone="UTC", name=f"job {n}")
        assert schedule.count(NOW, NOW.replace(year=2027)) == 12


@pytest.mark.parametrize(
    ("text", "count"), [("H/15 * * * *", 96), ("H(0-29)/10 * * * *", 72), ("H H/6 * * *", 4)]
)
def test_hashed_steps_keep_their_number(text: str, count: int) -> None:
    for n in range(40):
        schedule = parse(text, zone="UTC", name=f"job {n}")
        assert schedule.count(NOW, NOW + timedelta(days=1)) == count


def test_a_job_without_hashes_does_not_depend_on_its_name() -> None:
    assert parse("5 4 * * *", zone="UTC", name="a") == parse("5 4 * * *", zone="UTC", name="b")
    assert parse("H 4 * * *", zone="UTC", name="a") != parse("H 4 * * *", zone="UTC", name="b")


# -- Intervals


@pytest.mark.parametrize(
    ("text", "seconds", "sentence"),
    [
        ("@every 90m", 5400, "Every 1 hour and 30 minutes"),
        ("@every 45s", 45, "Every 45 seconds"),
        ("@EVERY 1H", 3600, "Every hour"),
        ("1d12h", 129_600, "Every 1 day and 12 hours"),
        ("@every 1h 1s", 3601, "Every 1 hour and 1 second"),
        ("@every 1w2d3h4m5s", 788_645, "Every 1 week, 2 days, 3 hours, 4 minutes and 5 seconds"),
        ("10m", 600, "Every 10 minutes"),
        ("1s", 1, "Every second"),
        ("521w", 521 * 604_800, "Every 521 weeks"),
    ],
)
def test_intervals(text: str, seconds: int, sentence: str) -> None:
    schedule = parse(text, zone="Europe/Berlin")
    assert schedule.next(NOW) == NOW + timedelta(seconds=seconds)
    assert schedule.explain() == sentence


def test_an_interval_counts_from_the_slot_before() -> None:
    schedule = parse("@every 40m", zone="UTC")
    created = NOW + timedelta(microseconds=123)
    assert schedule.count(created, created + timedelta(hours=2)) == 3
    assert schedule.latest(created, created + timedelta(hours=3)) == created + timedelta(
        minutes=160
    )
    assert schedule.latest(created, created + timedelta(minutes=39)) is None


# -- Recurrences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", ["Mon 15 Jun 2026", "Mon 29 Jun 2026"]),
        ("RRULE:FREQ=WEEKLY;INTERVAL=2", ["Mon 15 Jun 2026", "Mon 29 Jun 2026"]),
        ("RRULE:FREQ=MONTHLY;BYDAY=-1FR", ["Fri 26 Jun 2026", "Fri 31 Jul 2026"]),
        ("RRULE:FREQ=MONTHLY;BYMONTHDAY=-1", ["Tue 30 Jun 2026", "Fri 31 Jul 2026"]),
        ("RRULE:FREQ=MONTHLY;INTERVAL=3", ["Wed 01 Jul 2026", "Thu 01 Oct 2026"]),
        ("RRULE:FREQ=YEARLY", ["Fri 01 Jan 2027", "Sat 01 Jan 2028"]),
        ("RRULE:FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO", ["Mon 28 Dec 2026", "Mon 27 Dec 2032"]),
        ("RRULE:FREQ=YEARLY;BYYEARDAY=-1", ["Thu 31 Dec 2026", "Fri 31 Dec 2027"]),
        ("DTSTART:20260131T000000 RRULE:FREQ=MONTHLY", ["Fri 31 Jul 2026", "Mon 31 Aug 2026"]),
        ("RRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", ["Mon 29 Jun 2026",
         "Thu 30 Jul 2026"]),
    ],
)  # fmt: skip
def test_slots_of_recurrences(text: str, expected: list[str]) -> None:
    assert slots(text, 2) == [f"{day} 00:00:00" for day in expected]


def test_count_until_and_exdate_end_and_thin_a_recurrence() -> None:
    counted = (
        "DTSTART:20260601T090000\nRRULE:FREQ=DAILY;COUNT=5\nEXDATE:20260604T090000,20260604T100000"
    )
    assert slots(counted, 9) == [
        "Wed 03 Jun 2026 09:00:00",
        "Fri 05 Jun 2026 09:00:00",
    ]
    assert slots("RRULE:FREQ=DAILY;BYHOUR=8;UNTIL=20260604", 9) == [
        "Wed 03 Jun 2026 08:00:00",
        "Thu 04 Jun 2026 08:00:00",
    ]
    schedule = parse(counted, zone="UTC")
    assert schedule.count(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)) == 4


def test_times_in_utc_are_turned_into_those_of_the_zone() -> None:
    text = "DTSTART:20260101T090000Z RRULE:FREQ=DAILY"
    assert slots(text, 1, zone="Asia/Tokyo") == ["Wed 03 Jun 2026 09:00:00"]


def test_a_far_off_start_costs_nothing() -> None:
    schedule = parse("DTSTART:19000101T000000 RRULE:FREQ=SECONDLY;INTERVAL=7;BYHOUR=3", zone="UTC")
    assert schedule.next(datetime(2190, 1, 1, tzinfo=UTC))


# -- Sentences and warnings


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "*/15 8-18 * * MON-FRI",
            "Every 15 minutes, between 08:00 and 18:59, Monday through Friday (Europe/Berlin)",
        ),
        ("30 2 * * *", "At 02:30 (Europe/Berlin)"),
        ("@daily", "At 00:00 (Europe/Berlin)"),
        ("0 0 13 * FRI", "At 00:00, on day 13 of the month, or on Friday (Europe/Berlin)"),
        ("0 0 */2 * MON", "At 00:00, every 2 days, only on Monday (Europe/Berlin)"),
        ("0 0 * * 1#2,L5", "At 00:00, on the second Monday and the last Friday of the month"
         " (Europe/Berlin)"),
        ("0 0 1 * TUE#1", "At 00:00, on day 1 of the month, or on the first Tuesday of the month"
         " (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU", "Every year on the last Sunday in March and"
         " October at 00:00 (Europe/Berlin)"),
        ("RRULE:FREQ=MONTHLY;BYMONTHDAY=1,-2;BYDAY=MO,TU;BYSETPOS=1;UNTIL=20270101", "Every month"
         " on Monday and Tuesday on the second to last day and day 1 at 00:00 (only the first of"
         " these), until 2027-01-01 23:59 (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYYEARDAY=100,-21", "Every year on the 21st to last day and day 100 of"
         " the year at 00:00 (Europe/Berlin)"),
        ("RRULE:FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;BYSECOND=5", "Every year on Monday in week 20 at"
         " 00:00:05 (Europe/Berlin)"),
        ("DTSTART:20270104T080000 RRULE:FREQ=WEEKLY;INTERVAL=2;COUNT=1", "Every 2 weeks on Monday"
         " at 08:00, from 2027-01-04 08:00, once (Europe/Berlin)"),
        ("RRULE:FREQ=HOURLY EXDATE:20270101T000000", "Every hour, except on 1 date"
         " (Europe/Berlin)"),
        ("0 0 * * *,3", "At 00:00 (Europe/Berlin)"),
        ("0 0 5-L * *", "At 00:00, between day 5 and 31 of the month (Europe/Berlin)"),
        ("30 2 * * * 15 2030", "At 02:30:15, only in 2030 (Europe/Berlin)"),
        ("RRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", "Every 2 weeks on Monday at 00:00"
         " (Europe/Berlin)"),
        ("RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9,17", "Every month on the last Friday at 09:00"
         " and 17:00 (Europe/Berlin)"),
        ("DTSTART:20260101T090000 RRULE:FREQ=DAILY;COUNT=400", "Every day at 09:00, from"
         " 2026-01-01 09:00, 400 times (Europe/Berlin)"),
        ("RRULE:FREQ=MINUTELY;INTERVAL=5;BYHOUR=8,9", "Every 5 minutes at hour 8 and 9"
         " (Europe/Berlin)"),
        ("", "Only by hand, or when a job it depends on ends"),
    ],
)  # fmt: skip
def test_sentences(text: str, sentence: str) -> None:
    assert parse(text, zone="Europe/Berlin").explain() == sentence


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("0 0 13 * FRI", "either of them"),
        ("0 0 31 * *", "without a day 31"),
        ("*/45 * * * *", "not a multiple of 45"),
        ("0 */5 * * *", "not a multiple of 5"),
        ("* * * * * */10", "once a tick"),
        ("@every 5s", "once a tick"),
        ("RRULE:FREQ=HOURLY", "first pass only"),
    ],
)
def test_ambiguous_schedule_gives_warning(text: str, warning: str) -> None:
    assert any(warning in said for said in parse(text, zone="UTC").warnings())


@pytest.mark.parametrize(
    "text", ["", "@daily", "*/15 8-18 * * MON-FRI", "0 0 L * *", "@every 90m", "RRULE:FREQ=DAILY",
             "0 0 31 1,3 *", "0 0 */2 * MON", "H/15 * * * *", "0 0 30 * * 0"],
)  # fmt: skip
def test_there_is_no_warning_without_a_reason(text: str) -> None:
    found = parse(text, zone="UTC", name="x").warnings()
    assert found == [] or (text == "0 0 30 * * 0" and "day 30" in found[0])


# -- Jitter


def test_jitter_is_within_its_bounds_and_always_the_same() -> None:
    slots = [NOW + timedelta(minutes=n) for n in range(500)]
    found = [jitter("nightly", slot, 30) for slot in slots]
    assert found == [
        jitter("nightly", slot.astimezone(ZoneInfo("Asia/Tokyo")), 30) for slot in slots
    ]
    assert {wait.total_seconds() for wait in found} == set(range(31))
    assert jitter("nightly", NOW, 0) == timedelta()
    assert jitter("nightly", NOW, seconds=1000) == timedelta(seconds=429)
    assert jitter("nightly", NOW, 1000) != jitter("hourly", NOW, 1000)


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
