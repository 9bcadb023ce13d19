"""The example configuration of Alertmanager: receivers and inhibitions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.alerts.rules import ALERTS, load
from tests.alerts.servers import Alertmanager
from tests.support.machine import find_program, require
from tests.support.processes import wait_until

EXAMPLE = ALERTS / "alertmanager.example.yml"
RECEIVERS = {"critical": "on-call", "warning": "people", "info": "people-for-information"}
Labels = dict[str, str]


@pytest.fixture(autouse=True)
def _needs_alertmanager() -> None:
    require("alertmanager")


def amtool(*arguments: str) -> str:
    done = subprocess.run(
        [str(find_program("amtool")), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_example_is_accepted() -> None:
    amtool("check-config", str(EXAMPLE))


@pytest.mark.parametrize("severity", RECEIVERS)
def test_receiver_depends_on_severity(severity: str) -> None:
    assert route_of("ChronikerJobFailing", f"severity={severity}") == RECEIVERS[severity]


def route_of(alertname: str, *labels: str) -> str:
    route = ["config", "routes", "test", f"--config.file={EXAMPLE}"]
    return amtool(*route, f"alertname={alertname}", "job=chroniker", *labels)


@pytest.mark.parametrize(
    ("severity", "receivers"),
    [
        ("critical", "warehouse,on-call"),
        ("warning", "warehouse"),
        ("info", "people-for-information"),
    ],
)
def test_team_receives_its_alerts(severity: str, receivers: str) -> None:
    labels = (f"severity={severity}", "team=warehouse")
    assert route_of("ChronikerJobFailing", *labels) == receivers


def test_watchdog_reaches_no_person() -> None:
    assert route_of("ChronikerWatchdog", "severity=none") == "watchdog"


def test_only_info_alerts_send_no_resolution() -> None:
    sent = {
        (receiver["name"], channel["send_resolved"])
        for receiver in load(EXAMPLE)["receivers"]
        for kind in ("email_configs", "webhook_configs")
        for channel in receiver.get(kind, [])
    }
    assert sent == {
        ("on-call", True), ("people", True), ("warehouse", True),
        ("people-for-information", False), ("watchdog", False),
    }  # fmt: skip


def named(alertname: str, **labels: str) -> Labels:
    return {"alertname": alertname, "job": "chroniker"} | labels


BACKUP = {"job_name": "backup"}
ON_WEB1 = BACKUP | {"host": "web1"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("firing", "quiet"),
    [
        (
            [
                named("ChronikerHostNotTicking", host="web1"),
                named("ChronikerJobOverdue", **ON_WEB1),
                named("ChronikerMonitorSilent", **ON_WEB1),
                named("ChronikerJobOverdue", job_name="backup", host="web2"),
                named("ChronikerJobOverdue", job_name="any host"),
                named("ChronikerJobFailing", **ON_WEB1),
                named("ChronikerJobOverdue", **ON_WEB1) | {"job": "staging"},
            ],
            [1, 2],
        ),
        (
            [
                named("ChronikerNoHostTicking"),
                named("ChronikerHostNotTicking", host="web1"),
                named("ChronikerJobOverdue", job_name="any host"),
                named("ChronikerMonitorSilent", **BACKUP),
                named("ChronikerJobFailing", **BACKUP),
                named("ChronikerHostNotTicking", host="web1") | {"job": "staging"},
            ],
            [1, 2, 3],
        ),
        (
            [
                named("ChronikerMetricsDown"),
                named("ChronikerJobFailing", **BACKUP),
                named("ChronikerNoHostTicking"),
                named("ChronikerJobFailing", **BACKUP) | {"job": "staging"},
                {"alertname": "NodeDown", "job": "chroniker"},
            ],
            [1, 2],
        ),
        (
            [
                named("ChronikerJobFailingRepeatedly", **BACKUP),
                named("ChronikerJobFailing", **BACKUP),
                named("ChronikerJobLost", job_name="import"),
                named("ChronikerJobFailing", job_name="import"),
                named("ChronikerJobFlapping", **ON_WEB1),
                named("ChronikerJobFailing", **ON_WEB1),
                named("ChronikerJobFailing", job_name="other"),
                named("ChronikerMonitorCritical", job_name="other"),
                named("ChronikerJobMissedDeadline", **BACKUP),
                named("ChronikerJobWillMissDeadline", **BACKUP),
                named("ChronikerJobWillMissDeadline", job_name="other"),
            ],
            [1, 3, 9],
        ),
    ],
    ids=["a host is not ticking", "no host ticks", "metrics are down", "one problem, two alerts"],
)
def test_dependent_alerts_are_inhibited(
    firing: list[Labels], quiet: list[int], tmp_path: Path
) -> None:
    """``quiet``: indexes of the firing alerts that are inhibited."""
    with Alertmanager.telling(tmp_path, "127.0.0.1:1", "127.0.0.1:1") as alertmanager:
        wait_until(lambda: alertmanager.post(firing), timeout=60, interval=0.1)

        def is_as_it_should_be() -> bool:
            active_alerts = alertmanager.active_alerts()
            found = [labels for labels, inhibited in active_alerts if inhibited]
            return len(active_alerts) == len(firing) and sorted(map(str, found)) == sorted(
                str(dict(sorted(firing[place].items()))) for place in quiet
            )

        wait_until(
            is_as_it_should_be, timeout=60, interval=0.1, message=f"{quiet} of {firing} to be quiet"
        )
