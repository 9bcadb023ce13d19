"""Monitors of a gauge that a test moves."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from chroniker_monitors.models import Monitor, MonitorState

_numbers = itertools.count(1)


def make_monitor(kind: str = "test_gauge", **fields: Any) -> Monitor:
    """One that is critical above 90 and warns above 80, unless told otherwise."""
    fields.setdefault("name", f"monitor {next(_numbers)}")
    if kind == "test_gauge":
        fields.setdefault("params", {"path": "/nonexistent"})
        fields.setdefault("warning", 80)
        fields.setdefault("critical", 90)
    return Monitor.objects.define(kind=kind, **fields)


def make_gauge_monitor(path: Path, value: object = "50", **fields: Any) -> Monitor:
    """A monitor of the number in ``path / "gauge"``."""
    set_gauge(path, value)
    return make_monitor(params={"path": str(path / "gauge")}, **fields)


def set_gauge(path: Path, value: object) -> None:
    (path / "gauge").write_text(str(value))


def make_heartbeat_monitor(period: float = 3600, grace: float = 600, **fields: Any) -> Monitor:
    params = {"period_seconds": period, "grace_seconds": grace}
    return make_monitor("heartbeat", params=params, **fields)


def monitor_state(monitor: Monitor, host: str = "") -> MonitorState:
    return MonitorState.objects.get(job=monitor.pk, host=host)
