"""The jitter of a job."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from chroniker.schedules import jitter
from tests.support.schedules import NOW


def test_jitter_is_bounded_and_deterministic() -> None:
    slots = [NOW + timedelta(minutes=n) for n in range(500)]
    found = [jitter("nightly", slot, 30) for slot in slots]
    assert found == [
        jitter("nightly", slot.astimezone(ZoneInfo("Asia/Tokyo")), 30) for slot in slots
    ]
    assert {wait.total_seconds() for wait in found} == set(range(31))
    assert jitter("nightly", NOW, 0) == timedelta()
    assert jitter("nightly", NOW, seconds=1000) == timedelta(seconds=429)
    assert jitter("nightly", NOW, 1000) != jitter("hourly", NOW, 1000)
