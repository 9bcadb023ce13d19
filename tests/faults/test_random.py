"""The guarantees under random faults from a seed."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.faults.deployment import Deployment
from tests.faults.process import BACKENDS, LONG, GetFaultProcess

LONG_SECONDS = 400
SECONDS = float(os.environ.get("CHRONIKER_FAULT_SECONDS") or (LONG_SECONDS if LONG else 48))
SLOTS = 10_000 if LONG else 1_000
DEPLOYED = [
    (backend, deployment)
    for deployment in Deployment
    for backend in deployment.backends
    if deployment is not Deployment.DIRECT
]
DEPLOYED_SECONDS = 30.0
DEPLOYED_SLOTS = 400


@pytest.mark.faults(long=True)
@pytest.mark.timeout(3600 if LONG else 300)
@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in BACKENDS]
)
def test_every_guarantee_holds(fault_process: GetFaultProcess, backend: str) -> None:
    larger: dict[str, Any] = {"hosts": 5, "scale": 2} if LONG else {}
    report = fault_process(backend).perform("random", seconds=SECONDS, **larger)
    assert_holds(report, SECONDS, SLOTS)


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("backend", "deployment"),
    [
        pytest.param(*each, marks=pytest.mark.xdist_group(each[0]), id="-".join(each))
        for each in DEPLOYED
    ],
)
def test_every_guarantee_holds_in_each_deployment(
    fault_process: GetFaultProcess, backend: str, deployment: Deployment
) -> None:
    process = fault_process(backend, deployment)
    report = process.perform("random", seconds=DEPLOYED_SECONDS)
    assert report["deployment"] == deployment
    assert_holds(report, DEPLOYED_SECONDS, DEPLOYED_SLOTS)


def assert_holds(report: dict[str, Any], seconds: float, slots: int) -> None:
    assert report["violations"] == []
    assert report["slots"] >= slots
    if report["stalled_seconds"] < report["seconds"] / 4:  # otherwise the machine could not do more
        assert report["runs"] >= slots / 2
        assert report["faults"] >= seconds / report["lease"]
