"""Leases and fencing tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.models import JobState, Run
from tests.factories import make_action_job
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_owner_of_an_expired_lease_writes_nothing(
    start_tick: StartTick, run_tick: RunTick, tmp_path: Path, settings: Any
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("hosts of an SQLite file are one machine; the kernel tells who is alive")
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


def test_long_write_transaction_does_not_lose_the_lease(run_tick: RunTick, settings: Any) -> None:
    """On SQLite a write transaction longer than the lease blocks every other writer."""
    settings.CHRONIKER_LEASE_SECONDS = 1 if connection.vendor == "sqlite" else 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    job = make_action_job("hold_write_transaction 4")
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"
