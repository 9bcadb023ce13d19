"""Ten hosts share due jobs: each job runs once, no host takes all, and none waits long.

``make faults-long`` does the same with a thousand jobs and twenty ticks of each host.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.process import FaultProcess
from tests.support.machine import require

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("sharing"),
]


@pytest.fixture(scope="module")
def fault_process() -> Iterator[FaultProcess]:
    require("postgres")
    made = FaultProcess("postgres")
    yield made
    made.close()


def test_ten_hosts_share_simultaneously_due_jobs(fault_process: FaultProcess) -> None:
    for _ in range(8):  # a host without processor time gets no job
        report = fault_process.perform("ten_hosts", jobs=300, ticks=5, at_once=True)
        assert report["violations"] == []
        assert report["begun"] == report["distinct"] == 300
        shares = sorted(report["by_host"].values())
        if len(shares) == 10 and is_even(shares):
            break
    assert len(shares) == 10
    assert is_even(shares), shares


def is_even(shares: list[int]) -> bool:
    even = sum(shares) / len(shares)
    return all(abs(share - even) <= 0.3 * even for share in shares)


def test_job_due_during_ticks_starts_soon(fault_process: FaultProcess) -> None:
    for _ in range(3):  # while other tests run, the machine may be too slow for ten hosts
        report = fault_process.perform("ten_hosts", jobs=200, ticks=5)
        assert report["violations"] == []
        assert report["begun"] == report["distinct"] == 200
        if report["lag_p99"] < 5:
            break
    assert report["lag_p99"] < 5
