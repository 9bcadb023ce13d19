"""Runs that a shutdown interrupts: no failure, and their slot is due again at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from chroniker.enums import RunStatus, Trigger
from chroniker.models import Incident, Job, JobDependency, JobState, Notification, Run
from tests.factories import (
    end,
    make_action_job,
    make_due_job,
    make_finished_run,
    make_job,
    start_run,
)
from tests.support.processes import tree_of, wait_until
from tests.support.runs import request_stop
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
FAILURES = ("failures_error", "failures_timeout", "failures_stopped", "failures_lost")

Interrupt = Callable[..., Job]


@pytest.fixture
def interrupt(start_tick: StartTick, tmp_path: Path, settings: Any) -> Interrupt:
    """``interrupt(**fields)``: a job whose run a tick was told to end, and that has ended."""
    settings.CHRONIKER_KILL_GRACE_SECONDS = 0
    started = tmp_path / "started"

    def run(**fields: Any) -> Job:
        # The second attempt ends at once: the file is there.
        fields.setdefault("args", f"once {started}")
        job = make_action_job(**fields)
        tick = start_tick()
        wait_until(started.exists)
        tick.kill(signal.SIGTERM)
        tick.wait(20)
        return job

    return run


def state_of(job: Job) -> JobState:
    return JobState.objects.get(job=job)


def attempts(job: Job) -> list[tuple[int, str, str]]:
    rows = Run.objects.filter(job=job).order_by("id")
    return [(run.attempt, run.trigger, run.status) for run in rows]


def interrupted(job: Job, now: datetime, **run_fields: Any) -> JobState:
    """The state of a job whose run has just been interrupted."""
    state = start_run(job, now - timedelta(minutes=1))
    assert state.current_run is not None
    for name, value in run_fields.items():
        setattr(state.current_run, name, value)
    state.current_run.save()
    end(state, now, RunStatus.INTERRUPTED)
    return state_of(job)


def test_is_counted_and_is_no_failure(interrupt: Interrupt) -> None:
    job = interrupt(subscribers=["ann"])
    state = state_of(job)
    assert (state.last_status, state.interrupted_total, state.runs_total) == ("interrupted", 1, 1)
    assert [getattr(state, name) for name in FAILURES] == [0, 0, 0, 0]
    assert (state.consecutive_failures, state.last_failure_at) == (0, None)
    assert not Incident.objects.exists()
    assert not Notification.objects.exists()
    assert not Run.objects.get(job=job).failed


def test_same_slot_is_started_again(interrupt: Interrupt, run_tick: RunTick) -> None:
    job = interrupt()
    state = state_of(job)
    assert state.due_at == state.restart_at == state.last_ended_at
    run_tick()
    assert attempts(job) == [(1, "schedule", "interrupted"), (2, "schedule", "succeeded")]
    assert len(set(Run.objects.values_list("scheduled_for", flat=True))) == 1
    state = state_of(job)
    assert (state.restart_at, state.restart_slot_at, state.retries_total) == (None, None, 0)
    assert (state.start_lag_count, state.runs_total) == (1, 2)
    run_tick()
    assert Run.objects.count() == 2


def test_is_not_started_again_where_the_job_says_so(
    interrupt: Interrupt, run_tick: RunTick
) -> None:
    job = interrupt(restart_interrupted=False)
    assert state_of(job).restart_at is None
    run_tick()
    assert attempts(job) == [(1, "schedule", "interrupted")]


def test_spends_no_retry(interrupt: Interrupt, run_tick: RunTick, tmp_path: Path) -> None:
    job = interrupt(max_retries=1, retry_delay_seconds=0)
    Job.objects.filter(pk=job.pk).update(args="fail boom")
    run_tick()
    run_tick()
    assert attempts(job) == [
        (1, "schedule", "interrupted"),
        (2, "schedule", "failed"),
        (3, "retry", "failed"),
    ]
    assert state_of(job).retry_at is None


def test_interrupted_retry_stays_a_retry(run_tick: RunTick) -> None:
    job = make_job(schedule="@every 1h", max_retries=1)
    now = datetime.now(UTC)
    interrupted(job, now, trigger=Trigger.RETRY, attempt=2)
    run_tick()
    assert attempts(job) == [(2, "retry", "interrupted"), (3, "retry", "succeeded")]
    assert state_of(job).retries_total == 0


def test_comes_before_the_next_slot_which_runs_too(run_tick: RunTick) -> None:
    job = make_due_job()
    now = datetime.now(UTC)
    slot = interrupted(job, now).restart_slot_at
    run_tick()
    runs = list(Run.objects.filter(job=job).order_by("id"))
    assert [run.status for run in runs] == ["interrupted", "succeeded", "succeeded"]
    assert runs[1].scheduled_for == slot and runs[2].scheduled_for != slot
    assert runs[2].attempt == 1


@pytest.mark.parametrize("trigger", [Trigger.MANUAL, Trigger.SCHEDULE, Trigger.DEPENDENCY])
def test_disabled_job_is_started_again_only_for_a_person(
    run_tick: RunTick, trigger: Trigger
) -> None:
    job = make_job(schedule="@every 1h")
    run_tick()
    interrupted(job, datetime.now(UTC), trigger=trigger)
    Job.objects.filter(pk=job.pk).update(enabled=False)
    run_tick()
    again = [(2, "manual", "succeeded")] if trigger == Trigger.MANUAL else []
    assert attempts(job) == [(1, trigger, "interrupted"), *again]
    assert state_of(job).restart_at is None


def test_change_of_the_schedule_does_not_withdraw_it(run_tick: RunTick) -> None:
    job = make_job(schedule="@every 1h")
    run_tick()
    interrupted(job, datetime.now(UTC))
    Job.objects.filter(pk=job.pk).update(schedule="@every 2h", name="another name")
    run_tick()
    assert attempts(job) == [(1, "schedule", "interrupted"), (2, "schedule", "succeeded")]


def test_start_deadline_counts_from_the_interruption(run_tick: RunTick) -> None:
    job = make_job(schedule="@every 3h", start_deadline_seconds=600)
    run_tick()
    now = datetime.now(UTC)
    interrupted(job, now - timedelta(seconds=500))
    run_tick()
    assert attempts(job)[-1] == (2, "schedule", "succeeded")


def test_slot_is_missed_after_the_start_deadline(run_tick: RunTick) -> None:
    job = make_job(schedule="@every 3h", start_deadline_seconds=600)
    run_tick()
    now = datetime.now(UTC)
    slot = interrupted(job, now - timedelta(seconds=700)).restart_slot_at
    run_tick()
    assert attempts(job) == [(1, "schedule", "interrupted"), (0, "schedule", "missed")]
    missed = Run.objects.get(job=job, status="missed")
    assert (missed.scheduled_for, missed.missed_reason) == (slot, "deadline")
    state = state_of(job)
    assert (state.missed_deadline, state.restart_at, state.lease_token) == (1, None, None)
    assert state.next_run_at is not None and state.next_run_at > now


def test_next_slot_starts_in_the_claim_that_withdraws_a_restart(run_tick: RunTick) -> None:
    job = make_due_job(start_deadline_seconds=600)
    interrupted(job, datetime.now(UTC) - timedelta(seconds=700))
    run_tick()
    statuses = [status for _, _, status in attempts(job)]
    assert sorted(statuses) == ["interrupted", "missed", "succeeded"]


def test_request_of_a_person_comes_first(run_tick: RunTick) -> None:
    job = make_job(schedule="@every 3h")
    run_tick()
    now = datetime.now(UTC)
    interrupted(job, now)
    JobState.objects.filter(job=job).request_run(now)
    run_tick()
    assert attempts(job) == [
        (1, "schedule", "interrupted"),
        (1, "manual", "succeeded"),
        (2, "schedule", "succeeded"),
    ]


class TestDependencies:
    def test_downstream_waits_for_the_restart(self, run_tick: RunTick) -> None:
        upstream, downstream = make_job(schedule="@every 1h"), make_job()
        JobDependency.objects.create(
            upstream=upstream, downstream=downstream, wait_for_success=False
        )
        run_tick()
        state = start_run(upstream, datetime.now(UTC) - timedelta(minutes=1))
        end(state, datetime.now(UTC), RunStatus.INTERRUPTED, has_downstream=True)
        assert state_of(downstream).run_requested_at is None
        run_tick()
        assert attempts(downstream) == [(1, "dependency", "succeeded")]

    def test_downstream_is_triggered_if_there_is_no_restart(self, run_tick: RunTick) -> None:
        upstream = make_job(schedule="@every 1h", restart_interrupted=False)
        downstream = make_job()
        JobDependency.objects.create(
            upstream=upstream, downstream=downstream, wait_for_success=False
        )
        run_tick()
        state = start_run(upstream, datetime.now(UTC) - timedelta(minutes=1))
        end(state, datetime.now(UTC), RunStatus.INTERRUPTED, has_downstream=True)
        assert state_of(downstream).run_requested_at is not None

    def test_restart_needs_no_further_run_of_its_upstream(self, run_tick: RunTick) -> None:
        """Its dependencies were met when it first started."""
        upstream, downstream = make_job(), make_job(schedule="@every 3h")
        JobDependency.objects.create(
            upstream=upstream, downstream=downstream, wait_for_next_run=True
        )
        run_tick()
        now = datetime.now(UTC)
        make_finished_run(upstream, now - timedelta(minutes=5))
        interrupted(downstream, now)
        run_tick()
        assert attempts(downstream)[-1] == (2, "schedule", "succeeded")

    def test_restart_does_not_run_beside_its_upstream(self, run_tick: RunTick) -> None:
        upstream, downstream = make_job(), make_job(schedule="@every 3h")
        JobDependency.objects.create(upstream=upstream, downstream=downstream)
        run_tick()
        start_run(upstream, datetime.now(UTC))
        interrupted(downstream, datetime.now(UTC))
        run_tick()
        assert attempts(downstream) == [(1, "schedule", "interrupted")]
        assert state_of(downstream).blocked_detail == f"{upstream.name} is running"


class TestWhoEndedIt:
    @pytest.mark.slow
    def test_request_of_a_person_during_the_shutdown_counts_more(
        self, start_tick: StartTick, run_tick: RunTick, tmp_path: Path, settings: Any
    ) -> None:
        settings.CHRONIKER_KILL_GRACE_SECONDS = 0
        pid_file = tmp_path / "pid"
        job = make_action_job(f"ignore_sigterm {pid_file}", kill_grace_seconds=4)
        tick = start_tick()
        wait_until(pid_file.exists)
        tick.kill(signal.SIGTERM)
        request_stop(job)
        tick.wait(30)
        run = Run.objects.get(job=job)
        assert (run.status, run.error) == ("stopped", "Stopped on request.")
        assert state_of(job).restart_at is None

    def test_service_manager_may_signal_all_processes_at_once(
        self, start_tick: StartTick, tmp_path: Path
    ) -> None:
        """As systemd does with KillMode=control-group, its default."""
        started = tmp_path / "started"
        job = make_action_job(f"sleep 60 {started}")
        tick = start_tick()
        wait_until(started.exists)
        tree = tree_of(tick.pid)
        assert set(tree) == {"tick", "forkserver", "warden", "job"}
        for process in tree.values():
            process.send_signal(signal.SIGTERM)
        tick.wait(30)
        assert Run.objects.get(job=job).status == "interrupted"

    @pytest.mark.parametrize("process", ["warden", "job"])
    def test_signal_without_a_shutdown_is_no_interruption(
        self, start_tick: StartTick, tmp_path: Path, process: str
    ) -> None:
        started = tmp_path / "started"
        job = make_action_job(f"sleep 60 {started}")
        tick = start_tick()
        wait_until(started.exists)
        psutil.Process(tree_of(tick.pid)[process].pid).send_signal(signal.SIGTERM)
        tick.wait(30)
        expected = {"warden": "stopped", "job": "failed"}
        assert Run.objects.get(job=job).status == expected[process]

    def test_command_line_of_a_person_is_stopped(
        self, start_tick: StartTick, tmp_path: Path, settings: Any
    ) -> None:
        """Ctrl-C of ``run_job`` must not start the job again in the background."""
        settings.CHRONIKER_KILL_GRACE_SECONDS = 0
        started = tmp_path / "started"
        job = make_action_job(f"sleep 60 {started}")
        tick = start_tick(only=frozenset([job.pk]), force=True)
        wait_until(started.exists)
        tick.kill(signal.SIGINT)
        tick.wait(30)
        run = Run.objects.get(job=job)
        assert (run.status, run.error) == ("stopped", "Stopped by a signal to the command.")
        assert state_of(job).restart_at is None
