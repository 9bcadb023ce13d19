"""Runs that are running and that nobody owns: made behind our back, or by a refused end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.models import Job, JobState, Run
from tests.factories import make_action_job, make_due_job
from tests.support.processes import is_alive, wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def refused() -> Iterator[Callable[[str], None]]:
    """``refused(condition)``: SQLite refuses to change a run so that the condition holds."""

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
    # Its process may live: it is given the time in which it has to end.
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
    assert run_tick().exit_code == 0  # the run that nobody owns gets a lease again
    expire_lease(job)
    JobState.objects.filter(job=other).request_run()
    assert run_tick().exit_code == 0  # and still cannot be ended
    assert Run.objects.filter(job=other, status="succeeded").count() == 2

    drop_refusing_trigger()
    assert run_tick().exit_code == 0
    assert run_tick().exit_code == 0
    runs = Run.objects.filter(job=job).order_by("id")
    assert [run.status for run in runs] == ["lost", "succeeded"]
