"""Runs whose tick has died are ended as lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.utils.timezone import now

from chroniker.conf import conf, runtime_dir
from chroniker.engine.reaper import adopt_orphan, job_lock, reap
from chroniker.models import Job, JobDependency, JobState, Run
from chroniker.processes.locks import OwnerLock
from tests.factories import make_action_job, make_due_job, make_job, make_job_state, make_running
from tests.support.outage import failing_statements
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


@pytest.mark.slow
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

    def go_away(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and "token 2" in params:
            raise OperationalError("the database is gone")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(go_away), pytest.raises(OperationalError):
        reap(conf.HOSTNAME, moment, stale=False)
    assert Run.objects.filter(status="lost").count() == 1

    reap(conf.HOSTNAME, moment, stale=False)
    assert Run.objects.filter(status="lost").count() == 2
    assert list(tmp_path.iterdir()) == []


class TestReap:
    """Without ticks; the kernel holds the locks of owners that live."""

    @pytest.fixture(autouse=True)
    def _own_runtime_dir(self, own_runtime_dir: None) -> None: ...

    def reap(self, *, stale: bool = False) -> list[Job]:
        return [finished.job for finished in reap("web1", now(), stale=stale)]

    def make_owned(self, owner: OwnerLock | None, **fields: Any) -> Job:
        job = make_job()
        make_running(job, lease_owner=owner.name if owner else "", **fields)
        return job

    def test_run_of_a_dead_owner_on_this_host_is_lost_at_once(self) -> None:
        alive, dead = OwnerLock(runtime_dir()), OwnerLock(runtime_dir())
        kept, lost = self.make_owned(alive), self.make_owned(dead)
        dead.release()
        assert self.reap() == [lost]
        run = Run.objects.get(job=lost)
        assert run.status == "lost"
        assert run.error == ("Lost: the scheduler on web1 died. How far the job came is unknown.")
        assert Run.objects.get(job=kept).status == "running"
        assert alive.path.exists() and not dead.path.exists()
        alive.release(unlink=True)

    def test_run_of_another_host_is_lost_after_its_lease(self) -> None:
        long_ago = now() - timedelta(hours=1)
        lost = self.make_owned(None, lease_host="web2", lease_expires_at=long_ago)
        kept = self.make_owned(None, lease_host="web2")
        unnamed = self.make_owned(None, lease_host="", lease_expires_at=long_ago)
        assert self.reap() == []
        assert self.reap(stale=True) == [lost, unnamed]
        assert "web2 did not renew its lease." in Run.objects.get(job=lost).error
        assert "on another host did not" in Run.objects.get(job=unnamed).error
        assert Run.objects.get(job=kept).status == "running"

    def test_lost_run_requests_its_downstream_jobs(self) -> None:
        lost = self.make_owned(None, lease_host="web2", lease_expires_at=now() - timedelta(hours=1))
        downstream = make_job()
        make_job_state(downstream)
        JobDependency.objects.create(upstream=lost, downstream=downstream, wait_for_success=False)
        self.reap(stale=True)
        assert JobState.objects.get(job=downstream).run_requested_by == "dependency"

    def test_lease_without_a_run_is_released(self) -> None:
        owner = OwnerLock(runtime_dir())
        job = self.make_owned(owner)
        Run.objects.all().delete()
        owner.release()
        assert self.reap() == []
        state = JobState.objects.get(job=job)
        assert (state.lease_token, state.lease_expires_at) == (None, None)
        assert (state.lease_host, state.lease_owner, state.runs_total) == ("", "", 0)

    def test_end_that_is_rejected_does_not_keep_others_from_being_ended(self, caplog: Any) -> None:
        long_ago = now() - timedelta(hours=1)
        bad, good = (
            self.make_owned(None, lease_host=host, lease_expires_at=long_ago)
            for host in ("bad", "good")
        )
        error = (
            "Lost: the scheduler on bad did not renew its lease. How far the job came is unknown."
        )
        with failing_statements("UPDATE", "chroniker_run", error=DataError, parameter=error):
            assert self.reap(stale=True) == [good]
        assert "cannot be written" in caplog.text
        assert self.reap(stale=True) == [bad]

    @pytest.mark.one_database
    @pytest.mark.parametrize(("minutes", "lost"), [(4, False), (6, True)])
    def test_lease_of_an_unknown_owner_on_sqlite_is_taken_after_five_minutes(
        self, minutes: int, lost: bool
    ) -> None:
        expired = now() - timedelta(minutes=minutes)
        for name in ("", "tick-1-gone.lock"):
            job = make_job()
            make_running(job, lease_owner=name, lease_expires_at=expired)
        assert len(self.reap(stale=True)) == (2 if lost else 0)

    @pytest.mark.one_database
    def test_living_owner_on_sqlite_keeps_its_run_beyond_the_lease(self) -> None:
        owner = OwnerLock(runtime_dir())
        job = self.make_owned(owner, lease_expires_at=now() - timedelta(hours=1))
        assert self.reap(stale=True) == []
        owner.release()
        assert self.reap(stale=True) == [job]
        assert not owner.path.exists()

    def test_free_run_lock_ends_nothing_while_the_tick_is_not_stopped(self, settings: Any) -> None:
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        owner = OwnerLock(runtime_dir())
        job = self.make_owned(owner)
        lock = job_lock(JobState.objects.get(job=job).pk)
        lock.acquire(wait=False)
        lock.release()
        assert self.reap() == []
        owner.release(unlink=True)


class TestAdoptOrphan:
    def test_running_run_of_a_state_without_an_owner_gets_a_lease(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 30
        job = make_job()
        state = make_job_state(job)
        assert not adopt_orphan(state.pk)
        orphan = Run.objects.create(job=job, scheduled_for=now(), started_at=now(), ran_on="web9")
        assert adopt_orphan(state.pk)
        state.refresh_from_db()
        assert (state.current_run, state.lease_host, state.lease_owner) == (orphan, "web9", "")
        assert state.lease_token and state.lease_expires_at
        assert timedelta(seconds=20) < state.lease_expires_at - now() < timedelta(seconds=31)
        token = state.lease_token
        assert not adopt_orphan(state.pk), "it has an owner now"
        state.refresh_from_db()
        assert state.lease_token == token

    def test_run_of_another_placement_is_not_adopted(self) -> None:
        job = make_job(hostname="*")
        state = make_job_state(job, host="web1")
        Run.objects.create(job=job, host="web2", scheduled_for=now(), started_at=now())
        Run.objects.create(job=make_job(), scheduled_for=now(), started_at=now())
        assert not adopt_orphan(state.pk)
