"""Slots of recurrence rules."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chroniker.schedules import parse
from tests.support.schedules import slots


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


def test_count_until_and_exdate_limit_a_recurrence() -> None:
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


def test_utc_times_are_converted_to_the_zone() -> None:
    text = "DTSTART:20260101T090000Z RRULE:FREQ=DAILY"
    assert slots(text, 1, zone="Asia/Tokyo") == ["Wed 03 Jun 2026 09:00:00"]


def test_distant_start_is_cheap() -> None:
    schedule = parse("DTSTART:19000101T000000 RRULE:FREQ=SECONDLY;INTERVAL=7;BYHOUR=3", zone="UTC")
    assert schedule.next(datetime(2190, 1, 1, tzinfo=UTC))
