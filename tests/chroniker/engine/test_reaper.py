"""Runs whose tick has died are ended as lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils.timezone import now

from chroniker.conf import conf, runtime_dir
from chroniker.engine.reaper import reap
from chroniker.models import Job, JobState, Run
from chroniker.processes.locks import OwnerLock
from tests.factories import make_action_job, make_due_job, make_job
from tests.support.processes import is_alive, wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def refused() -> Iterator[Callable[[str], None]]:
    """``refused(condition)``: SQLite rejects updates of runs that match the condition."""

    def refuse(condition: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE TRIGGER refuse_run BEFORE UPDATE ON chroniker_run"
                f" WHEN {condition} BEGIN SELECT RAISE(ABORT, 'not that'); END"
            )

    yield refuse
    drop_refusing_trigger()


def drop_refusing_trigger() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER IF EXISTS refuse_run")


def expire_lease(job: Job) -> None:
    changed = JobState.objects.filter(job=job, lease_token__isnull=False).update(
        lease_expires_at=datetime.now(UTC) - timedelta(hours=1)
    )
    assert changed == 1


def test_unowned_run_is_lost_after_a_lease_and_job_runs_again(
    run_tick: RunTick,
) -> None:
    job, other = make_due_job(), make_due_job()
    orphan = Run.objects.create(
        job=job, scheduled_for=job.created_at, started_at=job.created_at, ran_on="web9"
    )
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=other).status == "succeeded"
    state = JobState.objects.get(job=job)
    # Its process may be alive: the reaper waits until its lease has ended.
    assert state.current_run == orphan and state.lease_token and state.lease_host == "web9"
    assert state.blocked_reason == ""
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=job).status == "running"

    expire_lease(job)
    assert run_tick().exit_code == 0
    orphan.refresh_from_db()
    assert orphan.status == "lost" and "web9" in orphan.error
    assert run_tick().exit_code == 0
    assert Run.objects.exclude(pk=orphan.pk).get(job=job).status == "succeeded"
    state.refresh_from_db()
    assert (state.runs_total, state.failures_lost, state.lease_token) == (2, 1, None)


def test_deleted_state_loses_only_the_current_run(
    start_tick: StartTick, run_tick: RunTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(lambda: started.exists() and started.read_text())
    JobState.objects.filter(job=job).delete()
    Job.objects.filter(pk=job.pk).update(args="say hello", planned_from="")
    run_tick()
    JobState.objects.filter(job=job).request_run()
    run_tick()
    wait_until(lambda: not is_alive(int(started.read_text())), timeout=30)
    assert tick.wait(30).exit_code == 0
    expire_lease(job)
    run_tick()
    run_tick()
    first, *others = Run.objects.order_by("id").values_list("status", flat=True)
    assert first == "lost" and set(others) == {"succeeded"}


@pytest.mark.one_database
def test_rejected_finish_becomes_a_lost_run_with_reason(
    run_tick: RunTick, refused: Callable[[str], None]
) -> None:
    job = make_due_job()
    refused("NEW.status = 'succeeded'")
    assert run_tick().exit_code == 0
    run, state = Run.objects.get(job=job), JobState.objects.get(job=job)
    assert run.status == "lost" and "succeeded" in run.error and "not that" in run.error
    assert (state.runs_total, state.failures_lost, state.lease_token) == (1, 1, None)


@pytest.mark.one_database
def test_unwritable_finish_does_not_block_other_jobs(
    run_tick: RunTick, refused: Callable[[str], None]
) -> None:
    job = make_due_job()
    refused(f"NEW.status <> 'running' AND NEW.job_id = {job.pk}")
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=job).status == "running"
    assert JobState.objects.get(job=job).lease_token is None

    other = make_due_job()
    JobState.objects.request_run()
    assert run_tick().exit_code == 0  # the run without an owner gets a lease again
    expire_lease(job)
    JobState.objects.filter(job=other).request_run()
    assert run_tick().exit_code == 0  # its end still cannot be written
    assert Run.objects.filter(job=other, status="succeeded").count() == 2

    drop_refusing_trigger()
    assert run_tick().exit_code == 0
    assert run_tick().exit_code == 0
    runs = Run.objects.filter(job=job).order_by("id")
    assert [run.status for run in runs] == ["lost", "succeeded"]


def test_other_tick_does_not_reap_a_slow_tick(
    start_tick: StartTick, run_tick: RunTick, settings: Any, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 1 if connection.vendor == "sqlite" else 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    job = make_action_job("hold_write_transaction 3")
    tick = start_tick()
    wait_until(lambda: Run.objects.filter(job=job, status="running").exists())
    for _ in range(3):
        run_tick()
    tick.wait(20)
    assert Run.objects.get(job=job).status == "succeeded"


def test_suspended_tick_on_this_machine_is_killed_and_its_run_lost(
    start_tick: StartTick, run_tick: RunTick, settings: Any, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 1
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    pid = int(started.read_text())
    os.kill(tick.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: run_tick() and Run.objects.get(job=job).status == "lost", timeout=15,
                   interval=0.3)  # fmt: skip
        assert not is_alive(pid)
    finally:
        tick.kill(signal.SIGKILL)
    assert JobState.objects.get(job=job).failures_lost == 1


def test_interrupted_reaping_is_finished_by_the_next_tick(tmp_path: Path, settings: Any) -> None:
    """The first of two runs of a dead tick is ended, then the database fails."""
    settings.CHRONIKER_RUNTIME_DIR = str(tmp_path)
    owner = OwnerLock(runtime_dir())
    moment = now()
    for number in (1, 2):
        job = make_job(name=f"job {number}", command="noop")
        run = Run.objects.create(job=job, scheduled_for=moment, started_at=moment)
        JobState.objects.create(
            job=job,
            current_run=run,
            lease_token=f"token {number}",
            lease_host=conf.HOSTNAME,
            lease_owner=owner.name,
            lease_expires_at=moment + timedelta(hours=1),
        )
    owner.close()  # the kernel does this for a dead process; the file stays
    ended = 0

    def go_away(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal ended
        if sql.startswith("UPDATE") and "chroniker_jobstate" in sql:
            ended += 1
            if ended == 2:
                raise OperationalError("the database is gone")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(go_away), pytest.raises(OperationalError):
        reap(conf.HOSTNAME, moment, stale=False)
    assert Run.objects.filter(status="lost").count() == 1

    reap(conf.HOSTNAME, moment, stale=False)
    assert Run.objects.filter(status="lost").count() == 2
    assert list(tmp_path.iterdir()) == []
