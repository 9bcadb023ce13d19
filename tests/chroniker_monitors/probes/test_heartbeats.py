"""The heartbeat probe: passive, with a period and a grace."""

from __future__ import annotations

from chroniker_monitors.probes import kind_class
from tests.support.measurement import build_errors, measure_error


def test_heartbeat_probe_cannot_be_measured() -> None:
    assert kind_class("heartbeat").passive
    assert not kind_class("disk").passive
    assert "when pings arrive" in measure_error("heartbeat")


def test_period_and_grace_have_minimums() -> None:
    assert set(build_errors("heartbeat", period_seconds=0, grace_seconds=-1)) == {
        "period_seconds",
        "grace_seconds",
    }
