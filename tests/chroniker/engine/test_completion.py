"""The status and the message of each ending of a run."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_due_job
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("action", "status", "exit_code", "signal_number", "error"),
    [
        ("say hello", "succeeded", 0, None, ""),
        ("leave 0", "succeeded", 0, None, ""),
        ("leave 3", "failed", 3, None, "exit code 3"),
        ("leave 256", "failed", 1, None, "exit code 256"),
        ("exit_at_once 3", "failed", 3, None, "Ended with exit code 3."),
        ("exit_with_message 'no stock left'", "failed", 1, None, "no stock left"),
        ("fail boom", "failed", 1, None, "ValueError: boom"),
        ("refuse 'no such file'", "failed", 1, None, "CommandError: no such file"),
        ("crash", "failed", None, signal.SIGSEGV, "Killed by signal 11 SIGSEGV."),
        ("signal_self 40", "failed", None, 40, "Killed by signal 40."),
        ("fail_without_stderr descriptor", "failed", 1, None, "ValueError: boom"),
        ("fail_without_stderr stream", "failed", 1, None, "ValueError: boom"),
        ("fail_without_stderr nothing", "failed", 1, None, "ValueError: boom"),
        ("drop_streams", "succeeded", 0, None, ""),
        ("exit_with_unprintable_code", "failed", 1, None, "exit with an unprintable Strange"),
        ("write_stderr x", "succeeded", 0, None, ""),
        ("warn careful", "succeeded", 0, None, ""),
    ],
)
def test_each_ending_has_its_status_and_a_message(
    run_tick: RunTick,
    settings: Any,
    start_method: str,
    action: str,
    status: str,
    exit_code: int | None,
    signal_number: int | None,
    error: str,
) -> None:
    settings.CHRONIKER_START_METHOD = start_method
    job = make_action_job(action)
    assert run_tick().exit_code == 0
    run = Run.objects.get(job=job)
    assert (run.status, run.exit_code, run.signal, run.error) == (
        status, exit_code, signal_number, error,
    )  # fmt: skip
    state = JobState.objects.get(job=job)
    assert state.runs_total == 1
    assert state.failures_error == (0 if status == "succeeded" else 1)
    assert state.consecutive_failures == state.failures_error
    assert state.lease_token is None and state.current_run is None
    assert sum(state.duration_buckets.values()) == state.duration_count == 1
    assert run.duration_seconds is not None and run.duration_seconds > 0
    assert run.cpu_seconds is not None and run.cpu_seconds > 0
    assert run.max_rss_bytes is not None and run.max_rss_bytes > 2**20


def test_stderr_is_failure_only_if_configured(run_tick: RunTick) -> None:
    strict, lenient = (
        make_action_job("write_stderr x", stderr_is_failure=True),
        make_action_job("write_stderr x"),
    )
    logging = make_action_job("log x", stderr_is_failure=True)
    run_tick()
    assert Run.objects.get(job=strict).status == "failed"
    assert "stderr" in Run.objects.get(job=strict).error
    assert Run.objects.get(job=lenient).status == "succeeded"
    assert Run.objects.get(job=logging).status == "succeeded", "logging is not an error"


def test_out_of_range_numbers_affect_only_their_job(run_tick: RunTick) -> None:
    huge = 2**31 - 1
    bad = make_action_job("leave 1", max_retries=99, retry_delay_seconds=huge, jitter_seconds=0)
    good = make_due_job()
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=good).status == "succeeded"
    assert JobState.objects.get(job=bad).retry_at is not None
