"""The guarantees, and those of samples, while processes of batches are killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.process import FaultProcess

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

GetFaultProcess = Callable[[str], FaultProcess]


def on(backend: str) -> Any:
    return pytest.param(backend, marks=pytest.mark.xdist_group(backend))


def perform(fault_process: GetFaultProcess, backend: str, scenario: str) -> dict[str, Any]:
    report = fault_process(backend).perform(scenario)
    assert report["violations"] == []
    assert report["wrong_samples"] == [], "a sample was lost or doubled"
    assert report["wrong_unknown"] == []
    assert report["wrong_totals"] == []
    assert report["samples"] >= 30
    return report


@pytest.mark.parametrize("backend", [on("postgres"), on("sqlite"), on("mariadb")])
def test_killed_process_of_a_batch_costs_the_check_in_progress(
    fault_process: GetFaultProcess, backend: str
) -> None:
    report = perform(fault_process, backend, "killed_batches")
    assert report["kinds"]["kill_guard"] > 5
    assert report["killed_workers"] > 1
    assert report["unknown"] <= report["killed_workers"]
    assert report["statuses"]["failed"] == report["unknown"]


@pytest.mark.parametrize("backend", [on("postgres"), on("sqlite")])
def test_guarantees_hold_while_everything_around_a_batch_is_killed(
    fault_process: GetFaultProcess, backend: str
) -> None:
    perform(fault_process, backend, "crashing_batches")


@pytest.mark.parametrize("backend", [on("postgres")])
def test_lost_replies_to_commits_double_no_sample(
    fault_process: GetFaultProcess, backend: str
) -> None:
    perform(fault_process, backend, "lost_batch_commits")
