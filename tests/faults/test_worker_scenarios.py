"""The guarantees with Celery workers, on real brokers that are crashed, stopped and frozen."""

from __future__ import annotations

import os

import pytest

from tests.faults.brokers import require_broker
from tests.faults.process import LONG, GetFaultProcess

SECONDS = float(os.environ.get("CHRONIKER_FAULT_SECONDS") or (300 if LONG else 60))
SLOTS = 1_000


@pytest.mark.faults(long=True)
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("workers")
@pytest.mark.parametrize(
    ("backend", "broker"),
    [
        ("postgres", "rabbitmq"), ("postgres", "redis"), ("mariadb", "rabbitmq"),
        ("sqlite", "redis"),
    ],
)  # fmt: skip
def test_every_guarantee_holds_on_workers(
    fault_process: GetFaultProcess, backend: str, broker: str
) -> None:
    pytest.importorskip("celery")
    require_broker(broker)
    report = fault_process(backend).perform("workers", broker=broker, seconds=SECONDS)
    assert report["violations"] == []
    assert report["slots"] >= SLOTS
    if report["stalled_seconds"] < report["seconds"] / 4:  # otherwise the machine was too busy
        assert report["faults"] >= SECONDS / 6
        assert report["orders"] >= 200
