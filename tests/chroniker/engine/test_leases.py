"""Leases and fencing tokens."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils.timezone import now as utc_now

from chroniker.db.clock import boottime
from chroniker.engine.active_runs import ActiveRun
from chroniker.engine.leases import Leases, lease_deadline
from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_job
from tests.support.executors import InMemoryExecutor, InMemoryRun, make_run_request
from tests.support.processes import wait_until
from tests.support.timeline import Timeline
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_owner_of_an_expired_lease_writes_nothing(
    start_tick: StartTick, run_tick: RunTick, tmp_path: Path, settings: Any
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("hosts of an SQLite file are one machine; the kernel knows who is alive")
    settings.CHRONIKER_LEASE_SECONDS = 3
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.5
    settings.CHRONIKER_HOSTNAME = "web1"
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    pid = int(started.read_text())
    import signal

    os.kill(tick.pid, signal.SIGSTOP)
    from tests.support.processes import is_alive

    wait_until(lambda: not is_alive(pid), timeout=20)  # its warden killed it
    settings.CHRONIKER_HOSTNAME = "web2"
    wait_until(lambda: JobState.objects.stale().exists(), timeout=20)
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "lost" and "web1" in run.error
    os.kill(tick.pid, signal.SIGCONT)
    tick.wait(20)
    state = JobState.objects.get(job=job)
    assert (state.runs_total, state.failures_lost) == (1, 1)
    assert Run.objects.get(pk=run.pk).ended_at == run.ended_at


@pytest.mark.slow
def test_long_write_transaction_does_not_lose_the_lease(run_tick: RunTick, settings: Any) -> None:
    """On SQLite a write transaction longer than the lease blocks every other writer."""
    settings.CHRONIKER_LEASE_SECONDS = 1 if connection.vendor == "sqlite" else 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    job = make_action_job("hold_write_transaction 4")
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"


class TestExpiry:
    """Others record a lease of ten seconds as lost twenty seconds after its request."""

    @pytest.fixture(autouse=True)
    def _ten_seconds(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 10

    def test_lease_is_long_lost_one_lease_after_its_end(self) -> None:
        leases = Leases()
        leases.acquire("recent", boottime() - 19)
        leases.acquire("old", boottime() - 21)
        assert not leases.lost_for_long("recent")
        assert leases.lost_for_long("old")

    def test_unknown_lease_is_not_lost(self) -> None:
        assert not Leases().lost_for_long("unknown")

    def test_first_of_several_requests_counts_until_one_is_granted(self) -> None:
        leases = Leases()
        leases.acquire_if_unknown("token", boottime() - 21)
        leases.acquire_if_unknown("token", boottime())
        assert leases.lost_for_long("token")
        leases.acquire("token", boottime())
        assert not leases.lost_for_long("token")

    def test_unused_leases_are_forgotten(self) -> None:
        leases = Leases()
        for token in ("used", "unused"):
            leases.acquire(token, boottime() - 21)
        leases.forget_all_but({"used"})
        assert leases.lost_for_long("used") and not leases.lost_for_long("unused")

    def test_warden_ends_its_run_shortly_before_the_lease_ends(self, settings: Any) -> None:
        if connection.vendor == "sqlite":
            assert lease_deadline(1000) is None
            return
        assert lease_deadline(1000) == pytest.approx(1009)
        settings.CHRONIKER_LEASE_SECONDS = 1
        assert lease_deadline(1000) == pytest.approx(1000.8)


class TestRenewal:
    def test_renewal_is_due_at_the_configured_interval(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_RENEW_SECONDS = 7
        leases = Leases()
        before = time.monotonic()
        leases.start_renewing()
        after = time.monotonic()
        assert not leases.renewal_is_due(before + 6.9)
        assert leases.renewal_is_due(after + 7)
        leases.renew({}, set(), InMemoryExecutor())
        assert not leases.renewal_is_due(after + 6.9)

    def test_lease_is_extended_in_the_database_and_in_the_executor(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 30
        run, handle, executor = start_in_memory()
        ended = Timeline().start(make_job())
        foreign = Timeline().start(make_job())
        JobState.objects.update(lease_expires_at=utc_now() - timedelta(days=1))
        leases, before = Leases(), boottime()
        leases.acquire(run.claimed.token, before - 1000)
        leases.renew({handle.key: run}, {ended.token}, executor)
        for item in (run.claimed, ended):
            expiry = JobState.objects.get(pk=item.state.pk).lease_expires_at
            assert timedelta(seconds=20) < expiry - utc_now() < timedelta(seconds=31)  # type: ignore[operator]
        expiry = JobState.objects.get(pk=foreign.state.pk).lease_expires_at
        assert expiry is not None and expiry < utc_now()
        assert not leases.lost_for_long(run.claimed.token)
        assert handle.ending is None
        if connection.vendor != "sqlite":
            assert handle.lease_deadline == pytest.approx(before + 27, abs=5)

    def test_run_that_no_longer_holds_its_lease_is_abandoned(self, caplog: Any) -> None:
        run, handle, executor = start_in_memory()
        JobState.objects.update(lease_token="another host's")
        kept, other, _ = start_in_memory(executor)
        Leases().renew({handle.key: run, other.key: kept}, set(), executor)
        assert handle.outcome().status == "lost"
        assert other.ending is None
        assert f"Run {handle.key} lost its lease" in caplog.text
        assert JobState.objects.get(pk=run.claimed.state.pk).lease_token == "another host's"


def start_in_memory(
    executor: InMemoryExecutor | None = None,
) -> tuple[ActiveRun, InMemoryRun, InMemoryExecutor]:
    """A claimed run in an executor without processes."""
    claimed = Timeline().start(make_job())
    executor = executor or InMemoryExecutor()
    (handle,) = executor.start([make_run_request(claimed.run.pk, "sleep 60")])
    return ActiveRun(claimed, handle), handle, executor
