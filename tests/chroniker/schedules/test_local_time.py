"""Clock changes, as Debian's cron(8) handles them; checked against the daemon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chroniker.schedules import parse

# Zone, expression, local start, and the slots of the next hours in local time with offset.
NIGHTS = (
    # Spring: 02:00 to 03:00 does not exist on 29 March.
    ("Europe/Berlin", "30 2 * * *", "2026-03-28 12:00", 48, "29T03:00+0200 30T02:30+0200"),
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-28 12:00", 24, "29T03:00+0200"),
    ("Europe/Berlin", "0 2,3 * * *", "2026-03-28 12:00", 24, "29T03:00+0200"),
    ("Europe/Berlin", "30 1-3 * * *", "2026-03-28 23:00", 6, "29T01:30+0100 29T03:00+0200"
     " 29T03:30+0200"),
    ("Europe/Berlin", "30 * * * *", "2026-03-29 00:45", 3, "29T01:30+0100 29T03:30+0200"
     " 29T04:30+0200"),
    ("Europe/Berlin", "*/30 2 * * *", "2026-03-28 12:00", 38, "30T02:00+0200 30T02:30+0200"),
    ("Europe/Berlin", "*/15 * * * *", "2026-03-29 01:30", 1, "29T01:45+0100 29T03:00+0200"
     " 29T03:15+0200 29T03:30+0200"),
    ("Europe/Berlin", "RRULE:FREQ=DAILY;BYHOUR=2;BYMINUTE=30", "2026-03-28 12:00", 24,
     "29T03:00+0200"),
    ("Europe/Berlin", "@every 1h", "2026-03-29 01:30", 2, "29T03:30+0200 29T04:30+0200"),
    # Autumn: 02:00 to 03:00 comes twice on 25 October.
    ("Europe/Berlin", "30 2 * * *", "2026-10-24 12:00", 48, "25T02:30+0200 26T02:30+0100"),
    ("Europe/Berlin", "0,30 2,3 * * *", "2026-10-24 12:00", 24, "25T02:00+0200 25T02:30+0200"
     " 25T03:00+0100 25T03:30+0100"),
    ("Europe/Berlin", "30 * * * *", "2026-10-25 01:00", 4, "25T01:30+0200 25T02:30+0200"
     " 25T02:30+0100 25T03:30+0100"),
    ("Europe/Berlin", "*/30 2 * * *", "2026-10-24 12:00", 24, "25T02:00+0200 25T02:30+0200"
     " 25T02:00+0100 25T02:30+0100"),
    ("Europe/Berlin", "H/30 2 * * *", "2026-10-24 12:00", 24, "25T02:01+0200 25T02:31+0200"
     " 25T02:01+0100 25T02:31+0100"),
    ("Europe/Berlin", "RRULE:FREQ=HOURLY", "2026-10-25 01:30", 4, "25T02:00+0200 25T03:00+0100"
     " 25T04:00+0100"),
    ("America/New_York", "30 2 * * *", "2026-03-07 12:00", 48, "08T03:00-0400 09T02:30-0400"),
    ("America/New_York", "15 * * * *", "2026-03-08 01:00", 2, "08T01:15-0500 08T03:15-0400"),
    ("America/New_York", "30 1 * * *", "2026-10-31 12:00", 48, "01T01:30-0400 02T01:30-0500"),
    ("America/New_York", "30 1 * * *", "2025-11-01 12:00", 36, "02T01:30-0400"),
    ("America/New_York", "30 * * * *", "2026-11-01 00:45", 3, "01T01:30-0400 01T01:30-0500"
     " 01T02:30-0500"),
    # Half an hour: from 02:00 to 02:30 on 4 October, from 02:00 back to 01:30 on 5 April.
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00", 48, "04T02:30+1100 05T02:15+1100"),
    ("Australia/Lord_Howe", "*/15 * * * *", "2026-10-04 01:30", 1, "04T01:45+1030 04T02:30+1100"
     " 04T02:45+1100 04T03:00+1100"),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 12:00", 48, "05T01:45+1100 06T01:45+1030"),
    ("Australia/Lord_Howe", "45 * * * *", "2026-04-05 01:00", 3, "05T01:45+1100 05T01:45+1030"
     " 05T02:45+1030"),
    # In Dublin, winter is what the zone database calls daylight saving time.
    ("Europe/Dublin", "30 1 * * *", "2026-03-28 12:00", 36, "29T02:00+0100"),
    ("Europe/Dublin", "30 1 * * *", "2026-10-24 12:00", 36, "25T01:30+0100"),
    # Midnight itself is skipped.
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00", 36, "04T01:00-0200 05T00:00-0200"),
    ("Asia/Beirut", "30 0 * * *", "2026-03-28 12:00", 36, "29T01:00+0300 30T00:30+0300"),
    # At midnight the clock goes back to 23:00 of the day before.
    ("America/Sao_Paulo", "30 23 * * *", "2018-02-17 12:00", 48, "17T23:30-0200 18T23:30-0300"),
    ("America/St_Johns", "30 23 * * *", "2010-11-06 12:00", 48, "06T23:30-0230 07T23:30-0330"),
    ("America/St_Johns", "30 * * * *", "2010-11-06 23:00", 3, "06T23:30-0230 06T23:30-0330"
     " 07T00:30-0330"),
    # Clocks go back for Ramadan and forward after it.
    ("Africa/Casablanca", "30 2 * * *", "2026-02-14 12:00", 48, "15T02:30+0100 16T02:30+0000"),
    ("Africa/Casablanca", "30 2 * * *", "2026-03-21 12:00", 48, "22T03:00+0100 23T02:30+0100"),
    # The day that Samoa skipped.
    ("Pacific/Apia", "0 9 * * *", "2011-12-28 12:00", 72, "29T09:00-1000 31T00:00+1400"
     " 31T09:00+1400 01T09:00+1400"),
    ("Pacific/Apia", "0 */12 * * *", "2011-12-29 01:00", 24, "29T12:00-1000 31T00:00+1400"),
    ("Asia/Tehran", "30 0 * * *", "2022-03-21 12:00", 36, "22T01:00+0430 23T00:30+0430"),
    ("Antarctica/Troll", "30 1 * * *", "2026-03-28 12:00", 36, "29T03:00+0200 30T01:30+0200"),
)  # fmt: skip


@pytest.mark.parametrize(("zone", "text", "start", "hours", "expected"), NIGHTS)
def test_slots_of_a_night_with_a_change(
    zone: str, text: str, start: str, hours: int, expected: str
) -> None:
    schedule = parse(text, zone=zone, name="b")
    after = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    until = after + timedelta(hours=hours)
    slots = [slot for slot in schedule.upcoming(after, 20) if slot <= until]
    written = [f"{slot.astimezone(ZoneInfo(zone)):%dT%H:%M%z}" for slot in slots]
    assert written == expected.split()
    assert schedule.count(after, until) == len(slots)
    assert schedule.latest(after, until) == slots[-1]


def test_fixed_time_is_not_due_again_in_the_repeated_hour() -> None:
    schedule = parse("30 2 * * *", zone="Europe/Berlin")
    second_pass = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)
    assert schedule.next(second_pass) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert schedule.latest(second_pass, second_pass + timedelta(minutes=30)) is None


@pytest.mark.parametrize(
    ("text", "short_day", "long_day"),
    [
        ("* * * * *", 1380, 1500),
        ("*/15 * * * *", 92, 100),
        ("0 * * * *", 23, 25),
        ("0-59 0-23 * * *", 1380 + 0, 1440),
        ("30 2 * * *", 1, 1),
        ("* * * * * *", 82_800, 90_000),
        ("@every 1m", 1380, 1500),
    ],
)
def test_count_of_a_short_and_of_a_long_day(text: str, short_day: int, long_day: int) -> None:
    schedule = parse(text, zone="Europe/Berlin")
    zone = ZoneInfo("Europe/Berlin")
    for month, day, expected in ((3, 29, short_day), (10, 25, long_day)):
        midnight = datetime(2026, month, day, tzinfo=zone).astimezone(UTC)
        following = datetime(2026, month, day + 1, tzinfo=zone).astimezone(UTC)
        assert schedule.count(midnight, following) == expected
