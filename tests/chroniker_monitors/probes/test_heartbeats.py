"""The heartbeat probe: passive, with a period and a grace."""

from __future__ import annotations

from chroniker_monitors.probes import kind_class
from tests.support.measurement import build_errors, measure_error


def test_it_is_passive_and_cannot_be_asked() -> None:
    assert kind_class("heartbeat").passive
    assert not kind_class("disk").passive
    assert "when pings arrive" in measure_error("heartbeat")


def test_a_period_is_at_least_a_second_and_a_grace_nothing() -> None:
    assert set(build_errors("heartbeat", period_seconds=0, grace_seconds=-1)) == {
        "period_seconds",
        "grace_seconds",
    }
