"""How runs end: timeouts, stop requests, killed processes, limits."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from chroniker.models import Job, JobState, Run
from tests.factories import make_action_job, make_due_job
from tests.support.processes import is_alive, tree_of, wait_until
from tests.support.runs import request_stop
from tests.support.types import RunTick, StartTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


def test_timeout_ends_the_run(run_tick: RunTick) -> None:
    job = make_action_job("sleep 60", timeout_seconds=1, kill_grace_seconds=5)
    ended = run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "timed_out"
    assert run.signal == signal.SIGTERM
    assert "longer than 1 s" in run.error
    assert JobState.objects.get(job=job).failures_timeout == 1
    assert ended.seconds < 30  # instead of sixty


def test_stop_request_ends_the_run(start_tick: StartTick, tmp_path: Path) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    request_stop(job)
    tick.wait(20)
    run = Run.objects.get(job=job)
    assert (run.status, run.error) == ("stopped", "Stopped on request.")
    state = JobState.objects.get(job=job)
    assert state.failures_stopped == 1
    assert state.consecutive_failures == 0
    assert state.stop_requested_at is None


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["timeout", "stop"])
def test_job_and_daemon_ignoring_sigterm_are_killed_after_grace(
    start_tick: StartTick, tmp_path: Path, cause: str
) -> None:
    path = tmp_path / "daemon"
    job = make_action_job(
        f"ignore_sigterm {path}",
        kill_grace_seconds=1,
        timeout_seconds=2 if cause == "timeout" else None,
    )
    tick = start_tick()
    wait_until(lambda: path.exists() and path.read_text())
    daemon = psutil.Process(int(path.read_text()))
    assert daemon.is_running()
    if cause == "stop":
        request_stop(job)
    tick.wait(20)
    run = Run.objects.get(job=job)
    assert run.status == {"timeout": "timed_out", "stop": "stopped"}[cause]
    assert run.signal == signal.SIGKILL
    assert not is_alive(daemon.pid)


@pytest.mark.slow
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize("victim", ["tick", "forkserver", "warden", "job"])
def test_sigkill_of_tick_leaves_no_process_and_counts_once(
    start_tick: StartTick,
    run_tick: RunTick,
    tmp_path: Path,
    settings: Any,
    start_method: str,
    victim: str,
) -> None:
    settings.CHRONIKER_START_METHOD = start_method
    started = tmp_path / "started"
    job = make_action_job(f"sleep {3 if victim == 'forkserver' else 60} {started}")
    tick = start_tick()
    wait_until(started.exists)
    tree = tree_of(tick.pid)
    os.kill(tree[victim].pid, signal.SIGKILL)
    others = [process.pid for name, process in tree.items() if name != "tick"]
    if victim == "forkserver":
        tick.wait(20)
    else:
        wait_until(lambda: not [pid for pid in others if is_alive(pid)], timeout=2)
        tick.wait(20)
    if victim == "tick":
        assert Run.objects.get(job=job).status == "running"
        assert run_tick().exit_code == 0  # the next tick detects it at once, not after the lease
    run = Run.objects.get(job=job)
    expected = {"job": "failed", "forkserver": "succeeded"}.get(victim, "lost")
    assert run.status == expected, run.error
    if victim == "job":
        assert run.signal == signal.SIGKILL
    state = JobState.objects.get(job=job)
    assert state.runs_total == 1
    assert (state.failures_lost, state.failures_error) == (
        int(expected == "lost"), int(expected == "failed"),
    )  # fmt: skip
    # the next slot runs
    Job.objects.filter(pk=job.pk).update(args="say again")
    JobState.objects.filter(job=job).update(
        next_slot_at=datetime.now(UTC), next_run_at=datetime.now(UTC)
    )
    run_tick()
    assert Run.objects.filter(job=job).order_by("id").last().status == "succeeded"  # type: ignore[union-attr]
    assert JobState.objects.get(job=job).runs_total == 2


def test_daemon_left_by_a_job_is_killed(run_tick: RunTick, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"setsid sleep 300 & echo $! > {pid}"
    job = make_due_job(raw_command=f"sh -c '{script}'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.CHRONIKER_ALLOW_RAW_COMMANDS", True, raising=False)
        run_tick()
    assert Run.objects.get(job=job).status == "succeeded"
    assert not is_alive(int(pid.read_text()))


def test_memory_limit_gives_a_memory_error(run_tick: RunTick) -> None:
    job = make_action_job("allocate 400", memory_limit_mb=200)
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert "MemoryError" in run.error


def test_month_long_timeout_does_not_end_the_run(run_tick: RunTick) -> None:
    job = make_action_job("say hello", timeout_seconds=30 * 24 * 3600)
    run_tick()
    assert Run.objects.get(job=job).status == "succeeded"


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
