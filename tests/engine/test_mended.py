"""What reviewers broke, once; each of these failed before it was mended."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.utils.timezone import now

from chroniker.conf import conf, runtime_dir
from chroniker.engine.reaper import reap
from chroniker.models import Job, JobDependency, JobState, Run
from chroniker.processes.locks import OwnerLock
from tests.factories import make_action_job, make_due, make_due_job, make_job
from tests.support.processes import wait_until
from tests.support.runs import stored_output
from tests.support.types import RunManage, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_deleted_run_does_not_block_others(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 60
    started = tmp_path / "started"
    job, other = make_action_job(f"sleep 1.2 {started}"), make_action_job("sleep 1.5")
    tick = start_tick()
    wait_until(started.exists)
    Run.objects.filter(job=job).delete()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=other).status == "succeeded"
    state = JobState.objects.get(job=job)
    assert state.lease_token is None and state.runs_total == 1


def test_a_console_handler_of_the_site_is_not_stderr(run_tick: RunTick) -> None:
    handler = logging.StreamHandler()  # made with the stderr of then, as by LOGGING
    logger = logging.getLogger("bookshop")
    logger.addHandler(handler)
    try:
        job = make_action_job("log rows imported", stderr_is_failure=True)
        run_tick()
    finally:
        logger.removeHandler(handler)
    run = Run.objects.get(job=job)
    assert run.status == "succeeded", run.error
    assert stored_output(run, "log").count("rows imported") == 1
    assert stored_output(run, "stderr") == ""


def test_former_upstream_placement_does_not_block(run_tick: RunTick) -> None:
    first = make_job(hostname="")
    run_tick()
    Job.objects.filter(pk=first.pk).update(hostname="*")
    then = make_due_job()
    JobDependency.objects.create(downstream=then, upstream=first)
    run_tick()
    JobState.objects.filter(job=first).exclude(host="").request_run()
    run_tick()
    assert Run.objects.get(job=then).status == "succeeded"


def test_month_long_timeout_does_not_end_the_run(run_tick: RunTick) -> None:
    job = make_action_job("say hello", timeout_seconds=30 * 24 * 3600)
    run_tick()
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_retry_does_not_collide_with_a_run_for_the_same_slot(run_tick: RunTick) -> None:
    first = make_action_job("leave 1", max_retries=1, retry_delay_seconds=1000)
    then = make_job(command="act", args="leave 1", max_retries=2, retry_delay_seconds=1000)
    JobDependency.objects.create(
        downstream=then, upstream=first, wait_for_success=False, wait_for_completion=True
    )
    run_tick()
    assert Run.objects.filter(job=then).count() == 1
    for job in (first, then):
        JobState.objects.filter(job=job).update(retry_at=now() - timedelta(seconds=1))
        run_tick()
    assert JobState.objects.get(job=then).blocked_reason == ""
    attempts = Run.objects.filter(job=then).order_by("id").values_list("attempt", flat=True)
    assert list(attempts) == sorted(set(attempts)) and len(attempts) >= 2


def test_a_disabled_job_is_not_retried(
    run_tick: RunTick, start_tick: StartTick, tmp_path: Path
) -> None:
    job = make_action_job("leave 1", max_retries=3, retry_delay_seconds=1000)
    run_tick()
    Job.objects.update(enabled=False)
    run_tick()
    JobState.objects.update(retry_at=now() - timedelta(seconds=1), retry_slot_at=now())
    run_tick()
    assert Run.objects.filter(job=job).count() == 1
    assert JobState.objects.get(job=job).retry_at is None


def test_manual_request_overrides_blocked_dependency_request(run_tick: RunTick) -> None:
    first, then = make_action_job("leave 1"), make_job()
    JobDependency.objects.create(downstream=then, upstream=first)
    run_tick()
    JobState.objects.filter(job=then).update(run_requested_at=now(), run_requested_by="dependency")
    run_tick()
    assert not Run.objects.filter(job=then).exists()
    assert JobState.objects.filter(job=then).request_run() == 1
    run_tick()
    assert Run.objects.get(job=then).status == "succeeded"


def test_a_late_start_is_recorded_as_late(run_tick: RunTick, monkeypatch: Any) -> None:
    monkeypatch.setattr("chroniker.engine.scheduler._CLAIM_WINDOW_SECONDS", 0.5)
    for n in range(2):
        make_action_job("sleep 1.5", name=f"job {n}", priority=-n)
    run_tick(max_parallel=1)
    first, second = Run.objects.order_by("id")
    assert second.started_at - first.started_at > timedelta(seconds=1)  # type: ignore[operator]


@pytest.mark.parametrize("field", ["retry_delay_seconds", "jitter_seconds", "timeout_seconds"])
def test_out_of_range_numbers_are_rejected(field: str) -> None:
    job = make_job()
    setattr(job, field, 2**40)
    with pytest.raises(ValidationError) as caught:
        job.full_clean()
    assert field in caught.value.message_dict


def test_out_of_range_numbers_affect_only_their_job(run_tick: RunTick) -> None:
    huge = 2**31 - 1
    bad = make_action_job("leave 1", max_retries=99, retry_delay_seconds=huge, jitter_seconds=0)
    good = make_due_job()
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=good).status == "succeeded"
    assert JobState.objects.get(job=bad).retry_at is not None


def test_file_descriptor_limit_causes_no_failures(run_tick: RunTick, settings: Any) -> None:
    import resource

    settings.CHRONIKER_MAX_PARALLEL = 40
    for _ in range(40):
        make_action_job("sleep 0.5")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        assert run_tick().exit_code == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert Run.objects.filter(status="succeeded").count() == 40


def test_a_hosts_jobs_are_planned_even_if_its_first_tick_died(
    run_tick: RunTick, settings: Any
) -> None:
    from chroniker.engine.heartbeat import record_heartbeat

    job = make_job(hostname="*")
    run_tick()
    settings.CHRONIKER_HOSTNAME = "web2"
    record_heartbeat("web2")  # and then it died
    run_tick()
    assert JobState.objects.filter(job=job, host="web2").exists()


def test_run_job_runs_the_job_of_that_name_and_once(manage: RunManage) -> None:
    other = make_due_job(schedule="@every 1s")
    named = make_job(name=str(other.pk), command="act", args="say named")
    ended = manage("run_job", f" {other.pk} ")
    assert ended.returncode == 0
    assert list(Run.objects.values_list("job", flat=True)) == [named.pk]
    make_due(other)
    assert manage("run_job", other.name).returncode == 0
    assert Run.objects.filter(job=other).count() == 1


def test_spawned_job_keeps_pythonpath_for_its_programs(
    run_tick: RunTick, settings: Any, monkeypatch: Any
) -> None:
    settings.CHRONIKER_START_METHOD = "spawn"
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    job = make_action_job("tell PYTHONPATH")
    run_tick()
    assert stored_output(Run.objects.get(job=job), "stdout") == f"{os.getcwd()}\n"


@pytest.mark.slow
@pytest.mark.one_database
def test_hundreds_of_runs_do_not_deadlock_the_fork_server(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_MAX_PARALLEL = 1000
    for _ in range(450):  # more answers than the socket of the process that starts them holds
        make_due_job()
    assert run_tick().exit_code == 0
    assert Run.objects.filter(status="succeeded").count() == 450


def test_interrupted_reaping_is_finished_by_the_next_tick(tmp_path: Path, settings: Any) -> None:
    """The first of two runs of a dead tick is ended, then the database goes away."""
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
    owner.close()  # as the kernel does for a dead process; the file stays
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
