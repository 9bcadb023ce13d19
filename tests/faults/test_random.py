"""The guarantees under random faults from a seed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults.process import BACKENDS, LONG, FaultProcess

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200 if LONG else 300)]

SECONDS = float(os.environ.get("CHRONIKER_FAULT_SECONDS") or (450 if LONG else 48))
SLOTS = 10_000 if LONG else 1_000


@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in BACKENDS]
)
def test_every_guarantee_holds(fault_process: Callable[[str], FaultProcess], backend: str) -> None:
    report = fault_process(backend).perform("random", seconds=SECONDS)
    assert report["violations"] == []
    assert report["slots"] >= SLOTS
    assert report["runs"] >= SLOTS / 2
    assert report["faults"] >= SECONDS / 3
    assert report["longest_overlap"] <= 1.0
