"""Slots of intervals."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chroniker.schedules import parse
from tests.support.schedules import NOW


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


def test_interval_counts_from_the_previous_slot() -> None:
    schedule = parse("@every 40m", zone="UTC")
    created = NOW + timedelta(microseconds=123)
    assert schedule.count(created, created + timedelta(hours=2)) == 3
    assert schedule.latest(created, created + timedelta(hours=3)) == created + timedelta(
        minutes=160
    )
    assert schedule.latest(created, created + timedelta(minutes=39)) is None
