"""Deploys: hosts are restarted one after the other while jobs run."""

from __future__ import annotations

import signal
from collections import defaultdict
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.engine.scheduler import Scheduler
from chroniker.models import Incident, Job, JobState, Notification, Run
from tests.factories import make_job
from tests.support.processes import ForkedProcess, wait_until
from tests.support.types import RunInFork

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

HOSTS = ("web1", "web2", "web3")
RESTARTS = 6
PERIOD = timedelta(seconds=2)
FAILURES = ("failures_error", "failures_timeout", "failures_stopped", "failures_lost")


@pytest.fixture
def serve(run_in_fork: RunInFork, settings: Any) -> Any:
    """``serve(host)``: a cronserver of this host in a process of its own."""
    settings.CHRONIKER_KILL_GRACE_SECONDS = 0
    settings.CHRONIKER_OVERDUE_SECONDS = 60

    def start(host: str) -> ForkedProcess:
        settings.CHRONIKER_HOSTNAME = host
        # One run each: otherwise the host that happens to tick first takes all that is due.
        return run_in_fork(lambda: Scheduler(every=0.2, max_parallel=1).run())

    return start


def test_rolling_restart_under_load_loses_no_slot(serve: Any) -> None:
    jobs = [
        make_job(schedule="@every 2s", command="act", args=f"sleep {seconds}")
        for seconds in (0.1, 0.4, 0.8, 1.5)
    ]
    jobs += [
        make_job(schedule="@every 10h", created_at=utc_now() - timedelta(hours=10),
                 command="act", args="sleep 4")
        for _ in range(3)
    ]  # fmt: skip
    servers = {host: serve(host) for host in HOSTS}
    wait_until(lambda: Run.objects.running().count() >= 3, timeout=30)
    for number in range(RESTARTS):
        host = HOSTS[number % len(HOSTS)]
        wait_until(Run.objects.running().filter(ran_on=host).exists, timeout=30)
        servers[host].kill(signal.SIGTERM)
        assert servers[host].wait(30).exit_code == 0
        servers[host] = serve(host)
    wait_until(lambda: not _waiting(), timeout=60)
    Job.objects.update(enabled=False)
    wait_until(lambda: not Run.objects.running().exists(), timeout=60)
    for server in servers.values():
        server.kill(signal.SIGTERM)
        assert server.wait(30).exit_code == 0
    interrupted = Run.objects.filter(status="interrupted")
    assert interrupted.count() >= RESTARTS // 2
    for run in interrupted:
        assert Run.objects.filter(
            job=run.job, scheduled_for=run.scheduled_for, attempt=run.attempt + 1,
            trigger=run.trigger,
        ).exists(), f"{run} was not started again"  # fmt: skip
    for job in jobs:
        _check_slots(job)
        state = JobState.objects.get(job=job)
        assert [getattr(state, name) for name in FAILURES] == [0, 0, 0, 0]
        assert (state.consecutive_failures, state.lease_token) == (0, None)
        assert state.interrupted_total == interrupted.filter(job=job).count()
    assert set(Run.objects.values_list("status", flat=True)) <= {
        "succeeded", "interrupted", "missed",
    }  # fmt: skip
    assert not Incident.objects.exists()
    assert not Notification.objects.exists()


def _waiting() -> bool:
    """Whether an interrupted run has not been started again."""
    return JobState.objects.filter(restart_at__isnull=False).exists()


def _check_slots(job: Job) -> None:
    """Each slot from the first to the last has one outcome."""
    outcomes: dict[Any, list[str]] = defaultdict(list)
    for run in Run.objects.filter(job=job).order_by("id"):
        for number in range(max(1, run.missed_slots)):
            outcomes[run.scheduled_for + number * PERIOD].append(run.status)
    slots = sorted(outcomes)
    if job.schedule == "@every 2s":
        assert slots == [slots[0] + number * PERIOD for number in range(len(slots))]
    for slot, statuses in outcomes.items():
        assert statuses[-1] in ("succeeded", "missed"), (slot, statuses)
        assert set(statuses[:-1]) <= {"interrupted"}, (slot, statuses)
