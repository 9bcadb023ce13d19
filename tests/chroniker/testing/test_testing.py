"""What a site's own tests use: jobs inline, frozen schedules, overridden jobs."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker import current_run
from chroniker.enums import RunStatus, Trigger
from chroniker.models import Incident, Job, JobState, Notification, Run
from chroniker.signals import run_finished, run_started
from chroniker.testing import freeze_schedules, override_jobs, run_job
from tests.factories import make_action_job, make_job, make_maintenance, make_subscribed_job
from tests.support.tasks import TASKS, needs_tasks

pytestmark = pytest.mark.django_db

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)


def test_runs_in_the_transaction_of_the_test_and_records_everything() -> None:
    """No commit is needed: the job sees what the test has written, and the test what it wrote."""
    assert connection.in_atomic_block
    job = make_action_job("use_database", name="first")
    seen: list[tuple[str, str]] = []

    def note(sender: Any, run: Run, job: Job, **kwargs: Any) -> None:
        seen.append((job.name, run.status))

    run_started.connect(note)
    run_finished.connect(note)
    try:
        result = run_job("first")
    finally:
        run_started.disconnect(note)
        run_finished.disconnect(note)
    result.assert_succeeded()
    assert (result.status, result.exit_code, result.error) == ("succeeded", 0, "")
    assert result.stdout == "1 jobs\n"
    assert seen == [("first", "running"), ("first", "succeeded")]
    state = JobState.objects.get(job=job)
    assert (state.runs_total, state.duration_count, state.lease_token) == (1, 1, None)
    assert current_run() is None
    assert "CHRONIKER_RUN_ID" not in os.environ


def test_failure_has_error_traceback_incident_and_mail() -> None:
    job = make_subscribed_job(command="act", args="fail boom")
    result = run_job(job)
    result.assert_failed("boom")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert [incident.kind for incident in result.open_incidents] == ["failing"]
    assert Notification.objects.get().recipient == "ann@example.com"
    assert JobState.objects.get(job=job).failures_error == 1
    with pytest.raises(AssertionError, match="boom"):
        result.assert_succeeded()
    with pytest.raises(AssertionError, match="Expected a failure with 'bang'"):
        result.assert_failed("bang")
    Job.objects.filter(pk=job.pk).update(args="say fine")
    run_job(job.name).assert_succeeded()
    assert not Incident.objects.filter(resolved_at__isnull=True).exists()


def test_retry_is_scheduled_and_secrets_are_masked(settings: Any) -> None:
    settings.SHOP_PASSWORD = "correct horse battery"
    job = make_action_job("fail 'correct horse battery'", max_retries=1, schedule="@daily")
    with freeze_schedules(MONDAY) as schedules:
        schedules.advance(days=1)
        (first,) = schedules.run_due()
        assert "correct horse" not in first.error + first.stderr
        assert JobState.objects.get(job=job).retry_at is not None
        schedules.advance(minutes=2)
        (second,) = schedules.run_due()
    assert (second.run.attempt, second.run.trigger) == (2, Trigger.RETRY)


def test_stderr_counts_as_failure_only_if_the_job_says_so() -> None:
    job = make_job(command="act", args="say x", raw_command="")
    assert run_job(job).status == RunStatus.SUCCEEDED
    raw = make_job(command="", raw_command="/bin/sh -c 'echo oops >&2'", stderr_is_failure=True)
    with override_raw():
        result = run_job(raw)
    result.assert_failed("wrote to stderr")
    assert result.stderr == "oops\n"


class override_raw:  # noqa: N801
    def __enter__(self) -> None:
        from django.test import override_settings

        self.change = override_settings(CHRONIKER_ALLOW_RAW_COMMANDS=True)
        self.change.enable()

    def __exit__(self, *error: object) -> None:
        self.change.disable()


@pytest.mark.parametrize(
    ("raw", "fields", "status", "error"),
    [
        ("/bin/false", {}, "failed", "exit code 1"),
        ("/bin/sh -c 'kill -9 $$'", {}, "failed", "signal 9"),
        ("/bin/sleep 5", {"timeout_seconds": 1}, "timed_out", "longer than 1 s"),
        ("/no/such/program", {}, "failed", "No such file"),
    ],
)
@pytest.mark.one_database
def test_raw_commands(raw: str, fields: dict[str, Any], status: str, error: str) -> None:
    with override_raw():
        result = run_job(make_job(command="", raw_command=raw, **fields))
    assert result.status == status
    assert error in result.error


@needs_tasks
@pytest.mark.one_database
def test_task_runs_in_the_test_even_if_its_job_enqueues_it() -> None:
    result = run_job(make_job(task=f"{TASKS}.give", task_args=[[1]], enqueue=True))
    result.assert_succeeded()
    assert result.stdout == "[1]\n"
    run_job(make_job(task=f"{TASKS}.fail", task_args=["boom"])).assert_failed("ValueError: boom")
    progress = run_job(make_job(task=f"{TASKS}.report_progress_to", task_args=[3]))
    assert (progress.run.parts_done, progress.run.parts_total) == (3, 3)


@pytest.mark.one_database
def test_logging_is_captured_and_restored() -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    result = run_job(make_action_job("log info hello"))
    assert (root.level, root.handlers) == before
    result.assert_succeeded()
    assert "hello" in result.log


@pytest.mark.one_database
def test_what_cannot_run_says_why() -> None:
    job = make_job()
    make_maintenance(datetime.now(UTC) - timedelta(minutes=1), 60, job, pause=True)
    with pytest.raises(AssertionError, match="maintenance window"):
        run_job(job)
    refused = run_job(make_job(command="no_such_command"))
    refused.assert_failed("There is no management command")
    with pytest.raises(Job.DoesNotExist):
        run_job("nothing")


@pytest.mark.one_database
def test_pinned_job_runs_as_on_its_host() -> None:
    run_job(make_job(hostname="web7")).assert_succeeded()
    run_job(make_job(hostname="*")).assert_succeeded()


def test_frozen_schedules_show_what_is_due_and_run_it_with_what_follows() -> None:
    nightly = make_job(name="nightly", schedule="0 3 * * *", timezone="UTC")
    report = make_job(name="report", schedule="", timezone="UTC")
    report.dependencies.create(upstream=nightly)
    make_job(name="hourly", schedule="30 * * * *", timezone="UTC")
    make_job(name="off", schedule="* * * * *", enabled=False)
    with freeze_schedules(MONDAY) as schedules:
        assert schedules.due() == []
        assert schedules.next_run("nightly") == MONDAY + timedelta(hours=3)
        assert schedules.next_run(report) is None
        schedules.advance(minutes=45)
        assert schedules.due() == ["hourly"]
        assert [result.job.name for result in schedules.run_due()] == ["hourly"]
        schedules.advance(hours=2.25)
        results = schedules.run_due()
    assert sorted(result.job.name for result in results[:2]) == ["hourly", "nightly"]
    assert [(result.job.name, result.run.trigger) for result in results[2:]] == [
        ("report", Trigger.DEPENDENCY)
    ]
    run = Run.objects.get(job=nightly)
    assert run.scheduled_for == MONDAY + timedelta(hours=3)


@pytest.mark.one_database
def test_frozen_time_needs_a_zone_and_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="time zone"), freeze_schedules(datetime(2026, 3, 2)):
        pass
    with freeze_schedules(MONDAY) as schedules, pytest.raises(ValueError, match="go back"):
        schedules.advance(minutes=-1)


@pytest.mark.one_database
def test_overrides_are_restored_also_after_an_error() -> None:
    one, two = make_job(args="a"), make_job(args="b")

    @override_jobs(one.name, args="--dry-run", enabled=False)
    def change() -> None:
        one.refresh_from_db()
        assert (one.args, one.enabled) == ("--dry-run", False)
        raise KeyError

    with pytest.raises(KeyError):
        change()
    one.refresh_from_db()
    assert (one.args, one.enabled) == ("a", True)
    with override_jobs(enabled=False):
        assert not Job.objects.filter(enabled=True).exists()
    assert Job.objects.filter(enabled=True).count() == 2
    assert two.args == "b"
    with pytest.raises(AssertionError, match="no job x"), override_jobs("x", enabled=False):
        pass


PLUGIN_TEST = """\
from datetime import UTC, datetime, timedelta
import pytest
from chroniker.models import Job

def test_job(chroniker_run_job):
    Job.objects.create(name="hello", command="act", args="say hello")
    result = chroniker_run_job("hello")
    result.assert_succeeded()
    assert result.stdout == "hello\\n"

def test_schedules(chroniker_schedules):
    Job.objects.create(name="hello", command="noop", schedule="@daily")
    schedules = chroniker_schedules(datetime(2026, 3, 2, 1, tzinfo=UTC))
    schedules.advance(days=1)
    assert schedules.due() == ["hello"]
    assert [r.status for r in schedules.run_due()] == ["succeeded"]
"""


@pytest.mark.slow
@pytest.mark.one_database
def test_plugin_in_a_test_run_of_a_site(tmp_path: Path) -> None:
    (tmp_path / "test_site.py").write_text(PLUGIN_TEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "CHRONIKER_"))}
    repo = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p",
         "no:cacheprovider", "--ds", "tests.settings", str(tmp_path)],
        cwd=tmp_path, env=env | {"PYTHONPATH": repo}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr
