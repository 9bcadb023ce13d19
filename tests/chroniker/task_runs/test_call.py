"""A task in the guarded process: the same as a command in every respect."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client

from chroniker.models import Job, JobState, Run
from tests.factories import make_action_job, make_due_job
from tests.support.admin import admin_url
from tests.support.runs import stored_output
from tests.support.tasks import TASKS, needs_tasks
from tests.support.types import RunTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database, needs_tasks]


def make_task_job(task: str, *args: object, **fields: Any) -> Job:
    return make_due_job(task=f"{TASKS}.{task}", task_args=list(args), **fields)


def facts(client: Client, job: Job) -> dict[str, Any]:
    """What a run has left, and what its page shows; without what differs between any two runs."""
    run = Run.objects.get(job=job)
    page = client.get(admin_url("run_change", run)).content.decode()
    state = JobState.objects.get(job=job)
    return {
        "ending": (run.status, run.exit_code, run.signal, run.missed_reason),
        "error": run.error,
        "progress": (run.parts_done, run.parts_total),
        "written": (run.stdout_bytes, run.stderr_bytes > 0, run.log_bytes),
        "stdout": stored_output(run, "stdout"),
        "log": stored_output(run, "log"),
        "counters": (state.failures_error, state.failures_timeout, state.consecutive_failures),
        "page": re.findall(r"<dt>(.*?)</dt>", page),
        "problem": "chroniker-error" in page,
    }


PAIRS: list[tuple[str, str, list[Any], dict[str, Any], str]] = [
    ("sleep 60", "rest", [60], {"timeout_seconds": 3}, "timed_out"),
    ("fail boom", "fail", ["boom"], {}, "failed"),
    ("exit 3", "leave", [3], {}, "failed"),
    ("flood 1024 solid", "flood", [1024], {}, "succeeded"),
    ("report_progress_to 500", "report_progress_to", [500], {}, "succeeded"),
    ("log started", "log", ["started"], {"stderr_is_failure": True}, "succeeded"),
]
"""A command and a task that do the same, fields of both jobs, and how both end."""


def test_task_ends_and_looks_as_a_command(run_tick: RunTick, root: Client) -> None:
    """One that hangs, raises, exits, prints a gigabyte, reports progress, logs."""
    jobs = [
        (make_action_job(command, **fields), make_task_job(task, *args, **fields))
        for command, task, args, fields, _ in PAIRS
    ]
    run_tick()
    for (of_command, of_task), pair in zip(jobs, PAIRS, strict=True):
        found = facts(root, of_task)
        assert found["ending"][0] == pair[-1], pair
        assert found == facts(root, of_command)


def test_arguments_context_and_return_value(run_tick: RunTick) -> None:
    jobs = [
        make_task_job("say", "Grüße", "an", task_kwargs={"times": 2, "end": "!"}),
        make_task_job("say_context", "hello", name="with context"),
        make_task_job("say_later", "async"),
        make_task_job("give", None),
        make_task_job("give", {"a": ["ü"]}),
        make_task_job("give_set"),
    ]
    run_tick()
    runs = [Run.objects.get(job=job) for job in jobs]
    assert [run.status for run in runs] == ["succeeded"] * 5 + ["failed"]
    outputs = [stored_output(run, "stdout") for run in runs]
    assert outputs[0] == "Grüße an!Grüße an!"
    assert json.loads(outputs[1]) == ["hello", 1, "with context", ["hello"]]
    assert outputs[2:] == ['"async"\n', "", '{"a": ["ü"]}\n', ""]
    assert "TypeError" in runs[5].error


def test_task_runs_in_a_fresh_interpreter(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_START_METHOD = "spawn"
    job = make_task_job("say_context", "hello", name="spawned")
    run_tick()
    output = stored_output(Run.objects.get(job=job), "stdout")
    assert json.loads(output) == ["hello", 1, "spawned", ["hello"]]


def test_traceback_starts_in_the_task(run_tick: RunTick) -> None:
    job = make_task_job("fail", "boom")
    run_tick()
    text = stored_output(Run.objects.get(job=job), "stderr")
    assert re.findall(r'File ".*?([^/]+)", line', text) == ["tasks.py"]
    assert text.rstrip().endswith("ValueError: boom")


def test_task_that_cannot_be_called_fails_the_run_with_the_reason(run_tick: RunTick) -> None:
    """The code may have changed since the job was saved."""
    reasons = {
        "os.system": "not in the module `tasks`",
        f"{TASKS}.gone": "has no task 'gone'",
        f"{TASKS}.say": "The argument 'text' of say() is missing.",
    }
    for path in reasons:
        make_due_job(task=path)
    assert run_tick().exit_code == 0
    for path, reason in reasons.items():
        run = Run.objects.get(job__task=path)
        assert run.status == "failed"
        assert reason in run.error
        assert "Traceback" not in stored_output(run, "stderr")
