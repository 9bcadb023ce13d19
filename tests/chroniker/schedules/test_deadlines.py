"""Deadlines of slots: times of day in a zone, and periods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.exceptions import ScheduleError
from chroniker.schedules.deadlines import parse_finish_by

SLOTS = st.datetimes(datetime(2026, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])


@pytest.mark.parametrize(
    ("text", "slot", "deadline"),
    [
        ("06:00", "2026-11-26T02:00+01:00", "2026-11-26T06:00+01:00"),
        ("6:00", "2026-11-26T06:00+01:00", "2026-11-27T06:00+01:00"),
        ("06:00", "2026-11-26T23:30+01:00", "2026-11-27T06:00+01:00"),
        ("02:30", "2026-03-29T01:00+01:00", "2026-03-29T03:00+02:00"),  # skipped
        ("02:30", "2026-10-25T01:00+02:00", "2026-10-25T02:30+02:00"),  # repeated: the first
        ("90m", "2026-11-26T02:00+01:00", "2026-11-26T03:30+01:00"),
        (" 1d12h ", "2026-11-26T02:00+01:00", "2026-11-27T14:00+01:00"),
    ],
)
def test_deadline_of_a_slot(text: str, slot: str, deadline: str) -> None:
    finish_by = parse_finish_by(text, "Europe/Berlin")
    assert finish_by.after(datetime.fromisoformat(slot)) == datetime.fromisoformat(deadline)


@pytest.mark.parametrize(
    "text",
    ["24:00", "6", "06:60", "06:00:00", "@every 90m", "90", "-5m", "0m", "2 days", "٠٦:٠٠", "53w"],
)
def test_other_texts_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ScheduleError, match=r"Accepted: .*06:00.*90m") as caught:
        parse_finish_by(text, "UTC")
    assert caught.value.field == "finish_by"


@given(slot=SLOTS, zone=ZONES, minutes=st.integers(0, 24 * 60 - 1))
def test_a_time_of_day_is_after_the_slot_and_within_two_days(
    slot: datetime, zone: str, minutes: int
) -> None:
    hour, minute = divmod(minutes, 60)
    deadline = parse_finish_by(f"{hour:02}:{minute:02}", zone).after(slot)
    assert deadline is not None
    assert slot < deadline <= slot + timedelta(days=1, hours=2)
    local = deadline.astimezone(ZoneInfo(zone))
    skipped = (
        local.utcoffset()
        != (deadline - timedelta(seconds=1)).astimezone(ZoneInfo(zone)).utcoffset()
    )
    assert (local.hour, local.minute) == (hour, minute) or skipped


@given(slot=SLOTS, minutes=st.integers(1, 366 * 24 * 60))
def test_a_period_is_counted_from_the_slot(slot: datetime, minutes: int) -> None:
    deadline = parse_finish_by(f"{minutes}m", "Europe/Berlin").after(slot)
    assert deadline == slot + timedelta(minutes=minutes)
