"""Tasks that a real backend executes: in the database, by a worker in another process."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from chroniker.exceptions import TaskNotSuccessful
from chroniker.models import Job, JobState, Run
from chroniker.site_tasks import TaskArguments, library_of, load_task
from chroniker.task_runs import following
from tests.factories import make_due_job, make_job, make_run
from tests.support.admin import admin_url, visible_text
from tests.support.processes import wait_until
from tests.support.runs import request_stop, stored_output
from tests.support.tasks import TASKS, needs_stored_results, needs_tasks
from tests.support.types import RunInFork, RunTick, StartTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


@pytest.fixture(autouse=True)
def _no_grace(settings: Any) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 0


def make_enqueued(task: str, *args: object, **fields: Any) -> Job:
    return make_due_job(task=f"{TASKS}.{task}", task_args=list(args), enqueue=True, **fields)


def work() -> None:
    call_command(
        "db_worker", "--backend=stored", "--interval=0.05", "--no-startup-delay", "--no-reload"
    )


@pytest.fixture
def start_worker(transactional_db: None, run_in_fork: RunInFork) -> Callable[[], object]:
    """A worker of the backend, in a process of its own; killed at the end."""
    return lambda: run_in_fork(work)


def stored_results() -> Any:
    from django_tasks_db.models import DBTaskResult

    return DBTaskResult.objects.all()


def enqueued_run(job: Job) -> Run | None:
    return Run.objects.filter(job=job).exclude(task_result_id="").first()


@needs_stored_results
def test_status_error_and_return_value_are_those_of_the_result(
    run_tick: RunTick, start_worker: Callable[[], object], root: Client
) -> None:
    gives = make_enqueued("give_stored", {"a": ["ü"]})
    fails = make_enqueued("fail_stored", "boom")
    context = make_enqueued("say_context_stored", "hello")
    start_worker()
    run_tick()
    given, failed, told = (Run.objects.get(job=job) for job in (gives, fails, context))
    assert (given.status, stored_output(given, "stdout")) == ("succeeded", '{"a": ["ü"]}\n')
    assert (failed.status, failed.error, failed.exit_code) == ("failed", "ValueError: boom", 1)
    assert "Traceback" in stored_output(failed, "stderr")
    assert JobState.objects.get(job=fails).failures_error == 1
    assert json.loads(stored_output(told, "stdout")) == ["hello", 1, "", ["hello"]]
    assert {str(run.task_result_id) for run in (given, failed, told)} == {
        str(result.id) for result in stored_results()
    }
    assert given.task_result_id in visible_text(root.get(admin_url("run_change", given)))


@needs_stored_results
def test_run_that_ends_before_its_task_says_where_the_task_is(
    start_tick: StartTick, start_worker: Callable[[], object], tmp_path: Path
) -> None:
    waits = make_enqueued("rest_stored", 60, timeout_seconds=1)
    tick = start_tick()
    tick.wait(30)
    run = Run.objects.get(job=waits)
    assert run.status == "timed_out"
    assert "longer than 1 s. No worker has started the task" in run.error
    assert run.task_result_id in run.error
    stored_results().delete()

    started = tmp_path / "started"
    runs = make_enqueued("rest_stored", 60, str(started))
    start_worker()
    tick = start_tick()
    wait_until(lambda: started.exists() and enqueued_run(runs))
    wait_until(lambda: stored_results().get().status == "RUNNING")
    request_stop(runs)
    tick.wait(30)
    run = Run.objects.get(job=runs)
    assert run.status == "stopped"
    assert run.error.startswith("Stopped on request. ")
    assert f"(result {run.task_result_id})" in run.error


@needs_stored_results
def test_result_that_is_gone_or_cannot_be_read_ends_the_run_as_lost(
    start_tick: StartTick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_MISSING_SECONDS", 0.5)
    monkeypatch.setattr(following, "_UNREACHABLE_SECONDS", 0.5)
    gone, unreadable = make_enqueued("give_stored", 1), make_enqueued("give_stored", 2)
    tick = start_tick()
    wait_until(lambda: enqueued_run(gone) and enqueued_run(unreadable))
    run = enqueued_run(unreadable)
    assert run is not None
    stored_results().exclude(pk=run.task_result_id).delete()
    stored_results().update(task_path="no.such.task")  # as after a deploy without the function
    tick.wait(30)
    for job, reason in ((gone, "has lost the result"), (unreadable, "could not be asked")):
        run = Run.objects.get(job=job)
        assert (run.status, run.exit_code) == ("lost", 1)
        assert f"'stored' {reason}" in run.error
        assert run.task_result_id in run.error
        assert JobState.objects.get(job=job).failures_lost == 1


@needs_stored_results
def test_restarted_run_follows_the_task_that_is_there_already(
    start_tick: StartTick, run_tick: RunTick, start_worker: Callable[[], object]
) -> None:
    """A deploy of the scheduler enqueues nothing twice."""
    job = make_enqueued("give_stored", 7)
    tick = start_tick()
    wait_until(lambda: enqueued_run(job))
    tick.kill(signal.SIGTERM)
    tick.wait(30)
    assert Run.objects.get(job=job).status == "interrupted"
    start_worker()
    run_tick()
    first, second = Run.objects.filter(job=job).order_by("pk")
    assert (second.attempt, second.status) == (2, "succeeded")
    assert stored_output(second, "stdout") == "7\n"
    assert second.task_result_id == first.task_result_id
    assert stored_results().count() == 1


EARLIER = [
    # status of the attempt before, status of its result, what this attempt does
    ("interrupted", "SUCCESSFUL", "takes it"),
    ("interrupted", "FAILED", "takes it"),
    ("timed_out", "SUCCESSFUL", "takes it"),
    ("lost", "SUCCESSFUL", "takes it"),
    ("lost", "FAILED", "enqueues"),
    ("timed_out", "FAILED", "enqueues"),
    ("failed", "FAILED", "enqueues"),
    ("succeeded", "SUCCESSFUL", "enqueues"),
    ("interrupted", "gone", "enqueues"),
    ("interrupted", "of other arguments", "enqueues"),
]


@needs_stored_results
@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize(("before", "result", "does"), EARLIER)
def test_what_an_attempt_makes_of_the_one_before(before: str, result: str, does: str) -> None:
    task = load_task(f"{TASKS}.give_stored")
    library = library_of(task)
    assert library is not None
    first = task.enqueue("first")
    facts = {"exception_class_path": "builtins.ValueError", "traceback": "ValueError: boom"}
    stored_results().update(
        status="FAILED" if result == "FAILED" else "SUCCESSFUL", return_value="first", **facts
    )
    if result == "gone":
        stored_results().delete()
    job = make_job()
    args = "other" if result == "of other arguments" else None
    earlier = make_run(job, status=before, task_result_id=first.id, args=args)
    slot = {"job": job, "scheduled_for": earlier.scheduled_for, "started_at": earlier.started_at}
    Run.objects.create(attempt=2, status="interrupted", **slot)  # ended before it could look
    run = Run.objects.create(attempt=3, **slot)

    def finish(sentence: str) -> None:
        stored_results().filter(status="READY").update(status="SUCCESSFUL", return_value="new")

    follower = following.Follower(run.pk, task, library, finish)
    if does == "enqueues":
        assert follower.run(TaskArguments(["new"])) == "new"
        assert Run.objects.get(pk=run.pk).task_result_id not in ("", first.id)
        return
    if result == "FAILED":
        with pytest.raises(TaskNotSuccessful, match="ValueError: boom"):
            follower.run(TaskArguments(["new"]))
    else:
        assert follower.run(TaskArguments(["new"])) == "first"
    assert Run.objects.get(pk=run.pk).task_result_id == first.id
    assert stored_results().count() == 1


@needs_tasks
def test_backend_without_results_is_refused_unless_it_executes_at_once(run_tick: RunTick) -> None:
    refused = make_enqueued("in_dummy", "hello")
    at_once = make_enqueued("say", "hello")
    fails = make_enqueued("fail", "boom")
    run_tick()
    run = Run.objects.get(job=refused)
    assert run.status == "failed"
    assert "'dummy' (DummyBackend) does not store results" in run.error
    run = Run.objects.get(job=at_once)
    assert (run.status, stored_output(run, "stdout")) == ("succeeded", "hello\n")
    run = Run.objects.get(job=fails)
    assert (run.status, run.error) == ("failed", "ValueError: boom")


@needs_tasks
def test_job_that_enqueues_needs_a_backend_with_results() -> None:
    with pytest.raises(Exception, match="does not store results"):
        make_job(task=f"{TASKS}.in_dummy", task_args=["a"], enqueue=True).full_clean()
