"""How late a ping is, computed from when it came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker_monitors.probes import build, kind_class
from chroniker_monitors.probes.heartbeats import HeartbeatProbe, lateness_seconds
from tests.support.measurement import build_errors, measure_error

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def seconds_before_noon(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def heartbeat_probe(period: float = 600, grace: float = 60) -> HeartbeatProbe:
    probe = build("heartbeat", {"period_seconds": period, "grace_seconds": grace})
    assert isinstance(probe, HeartbeatProbe)
    return probe


@pytest.mark.parametrize(
    ("since_ping", "late", "too_late"),
    [(0, 0, False), (600, 0, False), (601, 1, False), (660, 60, False), (661, 61, True)],
)
def test_it_is_late_after_its_period_and_too_late_after_its_grace(
    since_ping: float, late: float, too_late: bool
) -> None:
    reading = heartbeat_probe().reading(
        seconds_before_noon(since_ping), seconds_before_noon(10_000), NOON
    )
    assert reading.value == late
    assert reading.message == f"last ping {since_ping} s ago"
    assert (
        heartbeat_probe().is_late(
            seconds_before_noon(since_ping), seconds_before_noon(10_000), NOON
        )
        is too_late
    )


def test_before_the_first_ping_it_counts_from_its_making() -> None:
    reading = heartbeat_probe().reading(None, seconds_before_noon(700), NOON)
    assert (reading.value, reading.message) == (100, "never pinged")
    assert heartbeat_probe().is_late(None, seconds_before_noon(700), NOON)
    assert not heartbeat_probe().is_late(None, seconds_before_noon(5), NOON)


@given(st.floats(-1e6, 1e9), st.floats(1, 1e8))
def test_lateness_is_never_negative(since_ping: float, period: float) -> None:
    late = lateness_seconds(seconds_before_noon(since_ping), NOON, period)
    assert 0 <= late <= max(since_ping, 0)


def test_it_is_passive_and_cannot_be_asked() -> None:
    assert kind_class("heartbeat").passive
    assert not kind_class("disk").passive
    assert "pings that arrive" in measure_error("heartbeat")


def test_a_period_is_at_least_a_second_and_a_grace_nothing() -> None:
    assert set(build_errors("heartbeat", period_seconds=0, grace_seconds=-1)) == {
        "period_seconds",
        "grace_seconds",
    }
