"""How jobs end, as people and metrics see it: real processes on the real database."""

from __future__ import annotations

import os
import resource
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from chroniker.models import Host, Job, JobState, OutputChunk, Run
from tests.factories import make_action_job, make_due_job
from tests.support.processes import is_alive, tree_of, wait_until
from tests.support.runs import request_stop, stored_output
from tests.support.types import RunInFork, RunTick, StartTick

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


@pytest.mark.one_database
def test_nothing_is_written_into_files_of_a_job_that_closed_ours(
    run_tick: RunTick, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    job = make_action_job(f"fail_with_own_files {mine}")
    run_tick()
    run = Run.objects.get(job=job)
    assert (run.status, run.exit_code) == ("failed", 1)
    assert "ValueError: boom" in stored_output(run, "stderr")
    assert mine.read_bytes() == b""


@pytest.mark.parametrize("name", ["no_such_command", "shell"])
def test_an_unknown_or_refused_command_is_a_failed_run_that_says_why(
    run_tick: RunTick, name: str
) -> None:
    job = make_due_job(command=name)
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert repr(name) in run.error


def test_invalid_arguments_fail_with_the_parser_error(run_tick: RunTick) -> None:
    job = make_due_job(command="act", args="--nonsense")
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert "action" in run.error or "unrecognized" in run.error


def test_arguments_with_an_open_quote_fail_the_run_and_not_the_tick(run_tick: RunTick) -> None:
    bad, good = make_action_job("say 'open"), make_action_job("say fine")
    assert run_tick().exit_code == 0
    assert "quote" in Run.objects.get(job=bad).error
    assert Run.objects.get(job=good).status == "succeeded"


def test_stderr_is_failure_only_where_the_job_says_so(run_tick: RunTick) -> None:
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


def test_streams_are_kept_apart_and_nothing_is_added(run_tick: RunTick) -> None:
    job = make_action_job("say 'Grüße 🎉'")
    other, logged = make_action_job("write_stderr warm"), make_action_job("log 42 rows")
    run_tick()
    assert stored_output(Run.objects.get(job=job), "stdout") == "Grüße 🎉\n"
    assert stored_output(Run.objects.get(job=job), "stderr") == ""
    assert stored_output(Run.objects.get(job=other), "stderr") == "warm\n"
    assert stored_output(Run.objects.get(job=logged), "log") == "INFO bookshop.import 42 rows\n"


def test_output_that_is_not_to_be_kept_is_not_kept(run_tick: RunTick) -> None:
    job = make_action_job("say secret plans", log_stdout=False)
    run_tick()
    run = Run.objects.get(job=job)
    assert stored_output(run, "stdout") == ""
    assert run.stdout_bytes == len("secret plans\n")


def test_a_traceback_begins_in_the_command(run_tick: RunTick) -> None:
    job = make_action_job("fail boom")
    run_tick()
    text = stored_output(Run.objects.get(job=job), "stderr")
    assert text.rstrip().endswith("ValueError: boom")
    assert "act.py" in text
    assert "chroniker/processes/child.py" not in text


def test_secrets_of_the_site_do_not_reach_the_database(run_tick: RunTick, settings: Any) -> None:
    settings.PAYMENT_API_KEY = "sk_live_abcdef0123456789"
    job = make_action_job("fail sk_live_abcdef0123456789")
    run_tick()
    run = Run.objects.get(job=job)
    assert run.error == "ValueError: ********"
    assert "sk_live" not in stored_output(run, "stderr")
    assert "sk_live" not in JobState.objects.get(job=job).last_error


def test_a_timeout_ends_the_run(run_tick: RunTick) -> None:
    job = make_action_job("sleep 60", timeout_seconds=1, kill_grace_seconds=5)
    ended = run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "timed_out"
    assert run.signal == signal.SIGTERM
    assert "longer than 1 s" in run.error
    assert JobState.objects.get(job=job).failures_timeout == 1
    assert ended.seconds < 30  # of the sixty that it would have slept


def test_a_stop_request_ends_the_run(start_tick: StartTick, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("cause", ["timeout", "stop"])
def test_job_and_daemon_ignoring_sigterm_are_killed_after_grace(
    start_tick: StartTick, tmp_path: Path, cause: str
) -> None:
    path = tmp_path / "daemon"
    job = make_action_job(
        f"stubborn {path}", kill_grace_seconds=1, timeout_seconds=2 if cause == "timeout" else None
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
        assert run_tick().exit_code == 0  # the next tick finds it at once, not after the lease
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


def test_a_daemon_that_outlives_its_job_is_ended_with_it(run_tick: RunTick, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"setsid sleep 300 & echo $! > {pid}"
    job = make_due_job(raw_command=f"sh -c '{script}'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.CHRONIKER_ALLOW_RAW_COMMANDS", True, raising=False)
        run_tick()
    assert Run.objects.get(job=job).status == "succeeded"
    assert not is_alive(int(pid.read_text()))


class TestRawCommands:
    def test_are_refused_unless_the_site_allows_them(self, run_tick: RunTick) -> None:
        job = make_due_job(raw_command="/bin/echo hello")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "failed"
        assert "CHRONIKER_ALLOW_RAW_COMMANDS" in run.error

    def test_run_without_a_shell(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="echo 'a b' $HOME", args="; exit 3")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "succeeded"
        assert stored_output(run, "stdout") == "a b $HOME ; exit 3\n"

    def test_that_do_not_exist_say_so(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="/no/such/program")
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "failed"
        assert "No such file" in run.error

    @pytest.mark.one_database
    def test_a_closed_pipe_ends_a_program_as_in_a_shell(
        self, run_tick: RunTick, settings: Any
    ) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        job = make_due_job(raw_command="sh -c 'yes | head -n 1'", stderr_is_failure=True)
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, stored_output(run, "stderr")) == ("succeeded", "")
        assert stored_output(run, "stdout") == "y\n"

    def test_report_progress_by_lines(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        script = 'for i in 1 2 3; do echo $i/7 >&"$CHRONIKER_PROGRESS_FD"; done'
        job = make_due_job(raw_command="bash -c", args=f"'{script}'")
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.parts_done, run.parts_total) == ("succeeded", 3, 7)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
class TestProgress:
    def test_is_visible_while_the_job_is_in_a_transaction(
        self, start_tick: StartTick, settings: Any, tmp_path: Path, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        told, seen = tmp_path / "told", tmp_path / "seen"
        job = make_action_job(f"progress_in_transaction {told} {seen}")
        tick = start_tick()
        wait_until(told.exists, timeout=20)
        began = time.monotonic()
        wait_until(
            lambda: JobState.objects.filter(
                job=job, parts_total=77, parts_done=13, progress_at__isnull=False
            ).exists()
        )
        assert time.monotonic() - began < 4  # two, and what a busy machine adds
        assert Run.objects.get(job=job).status == "running"
        seen.touch()
        tick.wait(20)
        assert Run.objects.get(job=job).status == "succeeded"

    def test_last_progress_is_stored(
        self, run_tick: RunTick, settings: Any, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        job = make_action_job("report_progress_to 100000")
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.parts_done, run.parts_total) == ("succeeded", 100000, 100000)


def test_a_sigterm_waits_for_the_jobs(start_tick: StartTick, tmp_path: Path) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 1.5 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    tick.wait(20)
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_sigterm_stops_the_jobs_after_the_grace_time(
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
    assert run.status == "stopped"
    assert "asked to end" in run.error


def test_an_edit_while_it_runs_and_the_counters_are_both_kept(
    start_tick: StartTick, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 1.5 {started}")
    form = Job.objects.get(pk=job.pk)  # as a form that was opened before the run ended
    tick = start_tick()
    wait_until(started.exists)
    form.refresh_from_db()
    form.description = "edited while it ran"
    form.schedule = "@every 2h"
    tick_end = tick.wait(20)
    form.save()
    assert tick_end.exit_code == 0
    state = JobState.objects.get(job=job)
    assert state.runs_total == 1 and state.last_status == "succeeded"
    job.refresh_from_db()
    assert job.description == "edited while it ran" and job.needs_planning


def test_a_memory_limit_ends_in_a_memory_error(run_tick: RunTick) -> None:
    job = make_action_job("allocate 400", memory_limit_mb=200)
    run_tick()
    run = Run.objects.get(job=job)
    assert run.status == "failed"
    assert "MemoryError" in run.error


def test_the_host_is_known_by_its_ticks(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    assert run_tick().output == ""
    host = Host.objects.get()
    assert host.name == "web1" and host.last_tick_at and host.first_tick_at
    assert host.tick_seconds is not None and host.tick_seconds < 5


def _tick_with_peak_memory() -> int:
    """A whole tick; by how much the memory of its process has grown at most, bytes."""
    from chroniker.engine.scheduler import Scheduler

    before = psutil.Process().memory_info().rss
    Scheduler().run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


@pytest.mark.parametrize("kind", ["lines", "solid", "binary"])
def test_large_output_is_kept_as_head_and_tail(
    run_in_fork: RunInFork, settings: Any, kind: str
) -> None:
    settings.CHRONIKER_MAX_OUTPUT_BYTES = 64 * 1024
    megabytes = 1000 if connection.vendor == "sqlite" else 250
    job = make_action_job(f"flood {megabytes} {kind}")
    ended = run_in_fork(_tick_with_peak_memory).wait(100)
    assert ended.exit_code == 0, ended.output
    assert ended.value < 64_000_000
    run = Run.objects.get(job=job)
    assert run.status == "succeeded"
    assert run.stdout_bytes > megabytes * 1_000_000
    text = stored_output(run, "stdout")
    assert text.startswith("HEAD\n") and text.endswith("\nTAIL\n")
    chunks = list(OutputChunk.objects.filter(run=run).order_by("offset"))
    assert sum(chunk.size for chunk in chunks) <= 64 * 1024 + 64
    assert chunks[-1].offset + chunks[-1].size == run.stdout_bytes
