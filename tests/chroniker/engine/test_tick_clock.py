"""The clock of a tick: the database's, advanced by this host's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chroniker.db.clock import boottime
from chroniker.engine.tick_clock import TickClock
from tests.factories import NOON

SOON = timedelta(seconds=5)
"""The longest that a test takes on a busy machine, seconds."""


def test_reading_is_advanced_by_the_time_since() -> None:
    clock = TickClock()
    clock.set(NOON, boottime() - 90)
    assert timedelta() <= clock.now() - NOON - timedelta(seconds=90) < SOON


def test_reading_from_the_future_is_taken_back() -> None:
    clock = TickClock()
    clock.set(NOON, boottime() + 90)
    assert timedelta() <= clock.now() - NOON + timedelta(seconds=90) < SOON


def test_clock_moves_forward() -> None:
    clock = TickClock(NOON)
    assert clock.now() <= clock.now()


def test_pinned_clock_starts_at_its_time() -> None:
    clock = TickClock(NOON)
    assert clock.pinned == NOON
    assert timedelta() <= clock.now() - NOON < SOON


def test_clock_without_a_reading_is_that_of_the_host() -> None:
    clock = TickClock()
    assert clock.pinned is None
    assert abs(clock.now() - datetime.now(UTC)) < SOON
