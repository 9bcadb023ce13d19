"""The loop: what a tick does, its signals, and how it ends."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_delete
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now as utc_now

from chroniker.engine.scheduler import Scheduler
from chroniker.exceptions import DatabaseNotReady, HostNotReady
from chroniker.models import Host, Incident, Job, JobState, Notification, Run
from chroniker.signals import run_finished, run_missed, run_started
from tests.factories import (
    make_action_job,
    make_due_job,
    make_incident,
    make_job,
    make_notification,
    make_run,
    make_running,
)
from tests.support.outage import failing_statements
from tests.support.processes import wait_until
from tests.support.recording_server import RecordingServer
from tests.support.types import RunInFork, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestIdleTick:
    def queries(self) -> list[str]:
        from chroniker.engine.scheduler import Scheduler

        with CaptureQueriesContext(
            connection,
        ) as captured:
            Scheduler().run()
        control = ("BEGIN", "COMMIT")
        return [q["sql"] for q in captured.captured_queries if q["sql"] not in control]

    @pytest.mark.parametrize("jobs", [10, 2000])
    def test_query_count_is_independent_of_job_count(self, jobs: int) -> None:
        from chroniker.engine.scheduler import Scheduler

        Job.objects.bulk_create(
            Job(name=f"job {n}", command="noop", schedule="@every 1h") for n in range(jobs)
        )
        Scheduler().run()
        assert len(self.queries()) <= 4

    def test_idle_tick_prints_nothing(self, run_tick: RunTick) -> None:
        make_job(schedule="@every 1h")
        run_tick()
        assert run_tick().output == ""


@pytest.mark.one_database
def test_receiver_of_the_site_that_raises_does_not_end_the_runs(run_in_fork: RunInFork) -> None:
    """When old runs are deleted, say."""

    def work() -> str:
        def receive(sender: object, **_: object) -> None:
            raise ValueError("the site's audit log is broken")

        post_delete.connect(receive, sender=Run)
        try:
            Scheduler().run()
        except ValueError as error:
            return str(error)
        return "nothing raised"

    pruned, other = make_due_job(max_runs_kept=0), make_action_job("sleep 1")
    assert run_in_fork(work).wait(30).value == "the site's audit log is broken"
    assert Run.objects.get(job=pruned).status == "succeeded"
    assert Run.objects.get(job=other).status == "succeeded"


def test_sigterm_waits_for_the_jobs(start_tick: StartTick, tmp_path: Path) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 1.5 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    tick.wait(20)
    assert Run.objects.get(job=job).status == "succeeded"


def test_sigterm_interrupts_the_jobs_after_the_grace_time(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 1
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    assert tick.wait(20).seconds < 15
    run = Run.objects.get(job=job)
    assert run.status == "interrupted"
    assert "asked to shut down" in run.error


def test_second_sigterm_stops_the_jobs_at_once(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 60
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    tick.kill(signal.SIGINT)
    assert tick.wait(30).exit_code == 0
    assert Run.objects.get(job=job).status == "interrupted"


def test_scheduler_that_was_asked_to_stop_starts_nothing(
    start_tick: StartTick, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    first = make_action_job(f"sleep 1 {started}", priority=1)
    second = make_action_job("say hello")
    tick = start_tick(max_parallel=1)
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    tick.wait(30)
    assert Run.objects.get(job=first).status == "succeeded"
    assert not Run.objects.filter(job=second).exists()


class TestTicks:
    @pytest.fixture(autouse=True)
    def _own_runtime_dir(self, own_runtime_dir: None) -> None: ...

    def test_signals_report_each_run_and_missed_slot(self, run_in_fork: RunInFork) -> None:
        made = utc_now() - timedelta(minutes=130)
        make_due_job(name="job", command="act", args="leave 1", created_at=made)

        def work() -> list[tuple[str, ...]]:
            seen: list[tuple[str, ...]] = []

            def started(run: Run, job: Job, **_: Any) -> None:
                seen.append(("started", job.name, run.status))

            def finished(run: Run, job: Job, **_: Any) -> None:
                stored = Run.objects.get(pk=run.pk).status
                seen.append(("finished", job.name, run.status, stored))

            def missed(run: Run, job: Job, **_: Any) -> None:
                seen.append(("missed", job.name, str(run.missed_slots)))

            run_started.connect(started)
            run_finished.connect(finished)
            run_missed.connect(missed)
            Scheduler().run()
            return seen

        assert run_in_fork(work).wait(30).value == [
            ("started", "job", "running"),
            ("missed", "job", "1"),
            ("finished", "job", "failed", "failed"),
        ]

    def test_runs_that_a_tick_finds_lost_are_announced(self, run_in_fork: RunInFork) -> None:
        job = make_job()
        expired = utc_now() - timedelta(hours=1)
        make_running(job, lease_host="web9", lease_expires_at=expired)

        def work() -> list[tuple[int, str]]:
            seen: list[tuple[int, str]] = []

            def finished(run: Run, **_: Any) -> None:
                seen.append((run.job_id, run.status))

            run_finished.connect(finished)
            Scheduler(on_finished=lambda ended: seen.append((ended.job.pk, "noted"))).run()
            return seen

        assert run_in_fork(work).wait(30).value == [(job.pk, "lost"), (job.pk, "noted")]

    def test_pinned_time_decides_what_is_due(self, run_tick: RunTick) -> None:
        job = make_job(schedule="@every 1h")
        run_tick()
        assert not Run.objects.exists()
        run_tick(now=utc_now() + timedelta(minutes=61))
        assert Run.objects.get(job=job).status == "succeeded"

    def test_only_chosen_jobs_are_run(self, run_tick: RunTick) -> None:
        chosen, _other = make_due_job(), make_due_job()
        run_tick(only=frozenset([chosen.pk]))
        assert Run.objects.get().job == chosen

    def test_notification_of_a_failure_is_sent_in_the_same_tick(self, run_tick: RunTick) -> None:
        make_action_job("leave 1", subscribers=["ann"])
        run_tick()
        assert Incident.objects.open().count() == 1
        assert Notification.objects.get().attempt_unfinished is False
        assert not Notification.objects.due(utc_now()).exists()

    def test_due_notifications_of_earlier_ticks_are_sent(self, run_tick: RunTick) -> None:
        run_tick()
        incident = make_incident()
        make_notification(incident, "1", next_attempt_at=utc_now() - timedelta(minutes=1))
        run_tick()
        assert not Notification.objects.due(utc_now()).exists()

    def test_notification_that_a_job_itself_has_written_is_sent_at_its_end(
        self, start_tick: StartTick, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        make_action_job(f"sleep 0.5 {started}", failures_open_incidents=False)
        tick = start_tick()
        wait_until(started.exists)
        make_notification(make_incident(), "1", next_attempt_at=utc_now() - timedelta(minutes=1))
        tick.wait(30)
        assert not Notification.objects.due(utc_now()).exists()

    def test_tick_pings_the_deadman_url_unless_it_is_for_some_jobs_only(
        self, run_tick: RunTick, recording_server: RecordingServer, settings: Any
    ) -> None:
        settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/alive"
        run_tick(only=frozenset())
        assert recording_server.requests == []
        run_tick()
        assert recording_server.requests == [("GET", "/alive")]

    def test_duration_of_the_tick_is_stored(self, run_tick: RunTick) -> None:
        make_action_job("sleep 1.5")
        run_tick()
        seconds = Host.objects.get().tick_seconds
        assert seconds is not None and 0 < seconds < 1.5, "until its jobs were started"

    def test_first_tick_without_a_database_is_reported(self) -> None:
        with failing_statements("chroniker_host"), pytest.raises(DatabaseNotReady, match="reached"):
            Scheduler().run()

    def test_host_without_a_runtime_directory_is_reported(
        self, settings: Any, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path / "file")
        with pytest.raises(HostNotReady):
            Scheduler().run()
        assert not Host.objects.exists()

    def test_runs_beyond_the_number_that_a_job_keeps_are_deleted(self, run_tick: RunTick) -> None:
        job = make_job(max_runs_kept=2)
        for _ in range(4):
            make_run(job)
        run_tick()
        JobState.objects.request_run(utc_now())
        run_tick()
        assert Run.objects.filter(job=job).count() == 2

    def test_server_ticks_again_until_it_is_stopped(self, start_tick: StartTick) -> None:
        tick = start_tick(every=0.1)
        wait_until(lambda: Host.objects.filter(last_tick_at__isnull=False).exists())
        for number in (1, 2):
            make_due_job()
            succeeded = Run.objects.filter(status="succeeded")
            wait_until(lambda runs=succeeded, number=number: runs.count() == number)
        tick.kill(signal.SIGTERM)
        assert tick.wait(20).exit_code == 0
