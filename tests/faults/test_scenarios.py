"""The guarantees under one kind of fault at a time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.process import LONG, GetFaultProcess

pytestmark = pytest.mark.timeout(300)

PLAN = [
    ("postgres", "calm"),
    ("postgres", "together"),
    ("postgres", "frozen_ticks"),
    ("postgres", "frozen_hosts"),
    ("postgres", "lost_commits"),
    ("postgres", "lost_claim_commits"),
    ("postgres", "pruned"),
    ("postgres", "skewed"),
    ("postgres", "crashes"),
    ("postgres", "killed_wardens"),
    ("postgres", "killed_forkservers"),
    ("postgres", "killed_ticks"),
    ("mariadb", "together"),
    ("mariadb", "frozen_ticks"),
    ("mariadb", "lost_commits"),
    ("mariadb", "skewed"),
    ("sqlite", "calm"),
    ("sqlite", "together"),
    ("sqlite", "frozen_ticks"),
    ("sqlite", "killed_ticks"),
    ("sqlite", "killed_wardens"),
    ("sqlite", "long_writer"),
    ("sqlite", "full_disk"),
]


def on(backend: str) -> Any:
    return pytest.mark.xdist_group(backend)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("backend", "scenario"),
    [pytest.param(*pair, marks=on(pair[0]), id="-".join(pair)) for pair in PLAN],
)
def test_guarantees_hold(fault_process: GetFaultProcess, backend: str, scenario: str) -> None:
    report = fault_process(backend).perform(scenario)
    assert report["violations"] == []
    assert report["begun"] > 0


@pytest.mark.faults
@pytest.mark.parametrize(
    "backend", [pytest.param(name, marks=on(name)) for name in ("postgres", "sqlite")]
)
def test_downtime_of_any_length_costs_one_late_start(
    fault_process: GetFaultProcess, backend: str
) -> None:
    report = fault_process(backend).perform("downtime")
    assert report["violations"] == []
    begun = report["begun_by_job"]
    for slots in (0, 1, 101, 10_000):
        for number in range(3):
            assert begun.get(f"away for {slots}, {number}", 0) == (1 if slots else 0)
        assert f"too late by {slots}" not in begun


@pytest.mark.faults
@pytest.mark.parametrize(
    ("backend", "ticks"),
    [
        pytest.param("postgres", 100, marks=on("postgres")),
        # The shared server has 151 connections, and others use it.
        pytest.param("mariadb", 60, marks=on("mariadb")),
        pytest.param("sqlite", 100, marks=on("sqlite")),
    ],
)
def test_ticks_at_one_instant_start_each_job_once(
    fault_process: GetFaultProcess, backend: str, ticks: int
) -> None:
    report = fault_process(backend).perform("simultaneous_ticks", ticks=ticks)
    assert report["violations"] == []
    assert report["begun"] == report["statuses"]["succeeded"] == 40
    assert sum(report["exit_codes"].values()) == ticks


@pytest.mark.faults(long=True)
@pytest.mark.xdist_group("postgres")
@pytest.mark.skipif(not LONG, reason="`make faults-long`")
def test_ten_hosts_share_a_thousand_jobs(fault_process: GetFaultProcess) -> None:
    report = fault_process("postgres").perform("ten_hosts")
    assert report["violations"] == []
    assert report["begun"] == report["distinct"] == 1000
    assert report["lag_p99"] < 5
    # When capacity is scarce, no host takes all jobs.
    report = fault_process("postgres").perform("ten_hosts", at_once=True)
    assert report["violations"] == []
    assert report["begun"] == report["distinct"] == 1000
    even = 1000 / 10
    assert all(abs(number - even) <= 0.3 * even for number in report["by_host"].values())


@pytest.mark.faults(long=True)
@pytest.mark.xdist_group("postgres")
@pytest.mark.skipif(not LONG, reason="`make faults-long`")
def test_first_tick_after_a_week_of_downtime_takes_less_than_a_second(
    fault_process: GetFaultProcess,
) -> None:
    report = fault_process("postgres").perform("week_of_downtime")
    assert report["violations"] == []
    assert report["tick_after_a_week"] < report["usual_tick"] + 1
    assert report["started"] > 400
    assert report["most_starts"] == 1  # of a slot
