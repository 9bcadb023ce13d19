"""Hosts that are restarted in order, and pods that come and go: nothing may be lost by it."""

from __future__ import annotations

import pytest

from tests.faults.process import LONG, GetFaultProcess

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("postgres")]

DEPLOYS = 20 if LONG else 3
HOSTS = 3


@pytest.mark.faults(long=True)
def test_rolling_deploy_under_load_costs_nothing(fault_process: GetFaultProcess) -> None:
    report = fault_process("postgres").perform("rolling_deploy", times=DEPLOYS, hosts=HOSTS)
    assert report["violations"] == []
    assert report["restarts"] == DEPLOYS * HOSTS
    assert set(report["statuses"]) == {"succeeded", "interrupted"}
    interrupted = report["statuses"]["interrupted"]
    assert report["interrupted_and_started_again"] == interrupted >= DEPLOYS


@pytest.mark.faults
def test_fifty_pods_leave_only_those_that_live(fault_process: GetFaultProcess) -> None:
    report = fault_process("postgres").perform("pods", number=50, living=3)
    assert report["violations"] == []
    assert report["hosts_on_page"] == ["h48", "h49", "h50"]
