"""Slots of cron expressions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chroniker.schedules import parse
from tests.support.schedules import NOW, slots


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


def test_leap_day_on_a_weekday_is_found_across_2100() -> None:
    schedule = parse("0 0 29 2 */7", zone="UTC")
    assert schedule.next(datetime(2088, 3, 1, tzinfo=UTC)) == datetime(2128, 2, 29, tzinfo=UTC)


def test_schedule_ends_with_its_last_year() -> None:
    schedule = parse("0 0 31 12 * 0 2027", zone="UTC")
    assert schedule.upcoming(NOW) == [datetime(2027, 12, 31, tzinfo=UTC)]
    assert schedule.latest(NOW, datetime(2040, 1, 1, tzinfo=UTC)) == datetime(
        2027, 12, 31, tzinfo=UTC
    )
    assert schedule.count(NOW, datetime(2040, 1, 1, tzinfo=UTC)) == 1


def test_hashed_job_has_the_same_slots_always() -> None:
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


def test_hashed_day_of_month_exists_in_every_month() -> None:
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


def test_job_without_hashes_does_not_depend_on_its_name() -> None:
    assert parse("5 4 * * *", zone="UTC", name="a") == parse("5 4 * * *", zone="UTC", name="b")
    assert parse("H 4 * * *", zone="UTC", name="a") != parse("H 4 * * *", zone="UTC", name="b")
