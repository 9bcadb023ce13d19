"""Schedules that respect public holidays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse

pytest.importorskip("holidays")

DECEMBER = datetime(2026, 12, 22, tzinfo=UTC)  # a Tuesday


def upcoming(text: str, after: datetime, n: int, zone: str = "Europe/Berlin") -> list[str]:
    slots = parse(text, zone=zone).upcoming(after, n)
    return [
        slot.astimezone(parse(text, zone=zone).zone).strftime("%a %d.%m. %H:%M") for slot in slots
    ]


def test_holidays_are_skipped() -> None:
    assert upcoming("0 8 * * MON-FRI skip DE-BY", DECEMBER, 6) == [
        "Tue 22.12. 08:00", "Wed 23.12. 08:00", "Thu 24.12. 08:00", "Mon 28.12. 08:00",
        "Tue 29.12. 08:00", "Wed 30.12. 08:00",
    ]  # fmt: skip


def test_region_matters() -> None:
    after = datetime(2027, 1, 5, 12, tzinfo=UTC)  # Epiphany is a holiday in Bavaria only
    assert upcoming("0 8 * * * skip DE-BY", after, 1) == ["Thu 07.01. 08:00"]
    assert upcoming("0 8 * * * skip DE", after, 1) == ["Wed 06.01. 08:00"]


def test_slots_move_to_the_next_working_day_and_merge() -> None:
    # 25.12. is a Friday, 26.12. a Saturday and a holiday: Monday is the next working day.
    assert upcoming("0 8 24-28 12 * shift DE", DECEMBER, 3) == [
        "Thu 24.12. 08:00", "Mon 28.12. 08:00", "Fri 24.12. 08:00",
    ]  # fmt: skip
    assert upcoming("0 22,7 26 12 * shift DE", DECEMBER, 2) == [
        "Mon 28.12. 07:00", "Mon 28.12. 22:00",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["@every 1s skip DE", "@every 6h skip DE", "*/5 * * * * skip DE",
                                  "RRULE:FREQ=DAILY;BYHOUR=9 skip DE"])  # fmt: skip
def test_every_kind_can_skip(text: str) -> None:
    after = datetime(2026, 12, 24, 22, 59, 59, tzinfo=UTC)
    slot = parse(text, zone="Europe/Berlin").next(after)
    assert slot is not None
    assert slot.date() in (datetime(2026, 12, 26).date(), datetime(2026, 12, 27).date())


@given(
    text=st.sampled_from(
        ["0 8 * * * skip DE-BY", "30 */6 * * * skip US", "0 8 1,15 * * shift DE",
         "0 8,20 * * SAT,MON shift US-CA", "@every 7h skip DE"]
    ),
    start=st.datetimes(datetime(2026, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
    days=st.integers(0, 60),
)  # fmt: skip
@settings(max_examples=60)
def test_latest_and_count_agree_with_next(text: str, start: datetime, days: int) -> None:
    start = start.replace(microsecond=0)
    schedule, end = parse(text, zone="Europe/Berlin"), start + timedelta(days=days)
    slots = []
    slot = schedule.next(start)
    while slot is not None and slot <= end:
        assert not slots or slot > slots[-1]
        slots.append(slot)
        slot = schedule.next(slot)
    if "every" not in text:  # an interval counts from the moment it is asked
        assert schedule.count(start, end) == len(slots)
        assert schedule.latest(start, end) == (slots[-1] if slots else None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 8 * * * skip XX", "holidays of “XX” are not known"),
        ("0 8 * * * skip DE-XX", "holidays of “DE-XX” are not known"),
        ("* * * * * shift DE", "too often to be moved"),
        ("0 0 25 12 * skip DE", "never fires"),
        ("0 8 * * * skip DE skip US", ""),
        ("0 8 * * x skip DE", "day of week"),
    ],
)
def test_refusals(text: str, reason: str) -> None:
    if text.count("skip") == 2:
        assert upcoming(text, datetime(2026, 7, 3, 12, tzinfo=UTC), 1) == ["Sun 05.07. 08:00"]
        return
    with pytest.raises(ScheduleError, match=reason) as caught:
        parse(text, zone="UTC")
    assert "Accepted" in caught.value.reason


def test_sentence() -> None:
    assert parse("0 8 * * MON-FRI skip DE-BY", zone="UTC").explain() == (
        "At 08:00, Monday through Friday (UTC); not on public holidays (DE-BY)"
    )
    assert "next working day" in parse("0 8 1 * * shift US", zone="UTC").explain()
