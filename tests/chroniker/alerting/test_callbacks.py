"""CHRONIKER_JOB_ERROR_CALLBACK is called once for each failed run, and its errors are contained."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.callbacks import call_back
from chroniker.models import Job, JobState, Run
from tests.factories import make_action_job, make_job, make_output, make_run
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_runtime_dir"),
]


@pytest.fixture(autouse=True)
def calls_file(settings: Any, tmp_path: Path) -> Path:
    settings.CALLS_FILE = str(tmp_path / "calls")
    settings.CHRONIKER_JOB_ERROR_CALLBACK = "tests.support.callbacks.record_call"
    return tmp_path / "calls"


def calls(file: Path) -> list[list[str]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_callback_is_called_only_for_failed_runs(run_tick: RunTick, calls_file: Path) -> None:
    good = make_action_job()
    bad = make_action_job("fail boom")
    slow = make_action_job("sleep 60", timeout_seconds=1, kill_grace_seconds=0)
    refused = make_action_job(command="no_such_command")
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=good).status == "succeeded"
    found = {call[0]: call[1:] for call in calls(calls_file)}
    assert len(calls(calls_file)) == len(found) == 3
    stdout, stderr, status, in_database = found[bad.name]
    assert stdout == "" and stderr.rstrip().endswith("ValueError: boom")
    assert (status, in_database) == ("failed", "failed")  # after the commit
    assert found[slow.name][2:] == ["timed_out", "timed_out"]
    assert found[refused.name][2:] == ["failed", "failed"]


def test_callback_is_called_for_a_lost_run(
    run_tick: RunTick, start_tick: StartTick, calls_file: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 300 {started}")
    first = start_tick()
    wait_until(started.exists, timeout=30)
    first.kill(signal.SIGKILL)
    first.wait()

    def is_lost() -> bool:
        assert run_tick().exit_code == 0
        return Run.objects.get(job=job).status == "lost"

    wait_until(is_lost, timeout=30)
    assert run_tick().exit_code == 0
    assert calls(calls_file) == [[job.name, "", "", "lost", "lost"]]


@pytest.mark.one_database
def test_callback_is_not_called_for_a_stopped_run(
    start_tick: StartTick, calls_file: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 300 {started}", kill_grace_seconds=0)
    tick = start_tick()
    wait_until(started.exists, timeout=30)
    assert JobState.objects.filter(job=job).request_stop()
    assert tick.wait().exit_code == 0
    assert Run.objects.get(job=job).status == "stopped"
    assert calls(calls_file) == []


@pytest.mark.one_database
def test_legacy_callback_is_called_with_legacy_arguments(
    run_tick: RunTick, settings: Any, calls_file: Path
) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = "tests.support.callbacks.record_legacy_call"
    job = make_action_job("refuse 'no such file'")
    assert run_tick().exit_code == 0
    assert calls(calls_file) == [[job.name, "", "CommandError: no such file\n"]]


@pytest.mark.one_database
@pytest.mark.parametrize("name", ["raise_value_error", "leave", "not_there"])
def test_broken_callback_does_not_affect_the_run(
    run_tick: RunTick, settings: Any, calls_file: Path, name: str
) -> None:
    settings.CHRONIKER_JOB_ERROR_CALLBACK = f"tests.support.callbacks.{name}"
    jobs = [make_action_job("fail boom"), make_action_job("exit 3")]
    after = make_job(schedule="")
    after.dependencies.create(upstream=jobs[0], wait_for_success=False)
    assert run_tick().exit_code == 0
    assert {run.job_id: run.status for run in Run.objects.all()} == {
        jobs[0].pk: "failed", jobs[1].pk: "failed", after.pk: "succeeded",
    }  # fmt: skip
    assert len(calls(calls_file)) == (0 if name == "not_there" else 2)


# --- without ticks ---


def all_arguments(job: Job, **kwargs: Any) -> None:
    received.append(kwargs)


def only_run(job: Job, /, run: Run) -> None:
    received.append({"run": run})


def only_positional(stdout: object, /) -> None:
    """The job, whatever its parameter is called."""
    received.append({"job": stdout})


def only_stderr(job: Job, stderr: str) -> None:
    received.append({"stderr": stderr})


received: list[dict[str, Any]] = []


def call(settings: Any, name: str, status: str = "failed") -> tuple[Run, dict[str, Any] | None]:
    """Report the end of a run with output, and return what the function received."""
    received.clear()
    settings.CHRONIKER_JOB_ERROR_CALLBACK = f"{__name__}.{name}"
    run = make_run(make_job(), status=status)
    make_output(run, ("stdout", "a"), ("stderr", "x"), ("stdout", "b"), ("stderr", "y"))
    call_back(Run, run=run, job=run.job)
    return run, received[0] if received else None


def test_function_receives_the_arguments_that_it_accepts(settings: Any) -> None:
    run, found = call(settings, "all_arguments")
    assert found == {"stdout": "ab", "stderr": "xy", "run": run}
    run, found = call(settings, "only_run")
    assert found == {"run": run}
    run, found = call(settings, "only_positional")
    assert found == {"job": run.job}
    assert call(settings, "only_stderr")[1] == {"stderr": "xy"}


@pytest.mark.parametrize(
    ("status", "called"),
    [
        ("failed", True), ("timed_out", True), ("lost", True), ("stopped", False),
        ("succeeded", False),
    ],
)  # fmt: skip
def test_only_failures_are_reported(settings: Any, status: str, called: bool) -> None:
    assert (call(settings, "all_arguments", status)[1] is not None) is called


@pytest.mark.parametrize(("seconds", "logged"), [(5.0, False), (5.1, True)])
def test_slow_function_is_logged(
    settings: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    logged: bool,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def slow(job: Job) -> None:
        now[0] += seconds

    monkeypatch.setitem(globals(), "slow", slow)
    call(settings, "slow")
    assert (f"slow took {seconds} s" in caplog.text) is logged
    assert bool(caplog.messages) is logged
