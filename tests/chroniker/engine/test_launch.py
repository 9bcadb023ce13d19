"""How a run is started: start method, environment, lock files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.engine.claims import ClaimedRun
from chroniker.engine.launch import Launcher, build_run_request
from chroniker.engine.reaper import job_lock
from chroniker.exceptions import CommandRefused, HostNotReady
from chroniker.models import Job, JobState, Run
from chroniker.processes.running_child import RunRequest
from chroniker.signals import pre_fork
from tests.factories import NOON, make_action_job, make_due, make_due_job
from tests.support.runs import stored_output
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestExclusion:
    def test_job_with_a_held_lock_file_is_not_started(
        self, run_tick: RunTick, settings: Any, tmp_path: Path
    ) -> None:
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path)
        job = make_due_job()
        run_tick(only=frozenset())
        state = JobState.objects.get(job=job)
        with open(job_lock(state.pk).path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            run_tick()
            run = Run.objects.get(job=job)
            assert run.status == "failed" and "still holds" in run.error
        make_due(job)
        run_tick()
        assert Run.objects.order_by("id").last().status == "succeeded"  # type: ignore[union-attr]

    @pytest.mark.one_database
    def test_unusable_lock_file_fails_the_run_and_not_the_tick(
        self, run_tick: RunTick, settings: Any, tmp_path: Path
    ) -> None:
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path)
        job, other = make_due_job(), make_due_job()
        run_tick(only=frozenset())
        job_lock(JobState.objects.get(job=job).pk).path.mkdir()
        assert run_tick().exit_code == 0
        run = Run.objects.get(job=job)
        assert run.status == "failed" and "cannot be locked" in run.error
        assert Run.objects.get(job=other).status == "succeeded"


def test_spawned_job_keeps_pythonpath_for_its_programs(
    run_tick: RunTick, settings: Any, monkeypatch: Any
) -> None:
    settings.CHRONIKER_START_METHOD = "spawn"
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    job = make_action_job("print_env PYTHONPATH")
    run_tick()
    assert stored_output(Run.objects.get(job=job), "stdout") == f"{os.getcwd()}\n"


def make_request(sent: float = 1000.0, **fields: Any) -> RunRequest:
    """What an executor gets to know of a job, without a database."""
    job = Job(**{"name": "a job", "command": "noop"} | fields)
    state, run = JobState(pk=7, job=job), Run(pk=42, job=job, scheduled_for=NOON)
    return build_run_request(ClaimedRun(state, job, run, "token", False), sent)


class TestRunRequest:
    def test_management_command_has_its_arguments(self, settings: Any) -> None:
        settings.CHRONIKER_LOG_CAPTURE_LEVEL = "WARNING"
        settings.CHRONIKER_LOG_FORMAT = "%(message)s"
        request = make_request(args="--name 'two words' last")
        spec = request.start_request.spec
        assert (request.key, spec.run_id, spec.job_name) == (42, 42, "a job")
        assert (spec.command, spec.args) == ("noop", ("--name", "two words", "last"))
        assert (spec.log_level, spec.log_format) == ("WARNING", "%(message)s")
        assert request.start_request.raw == ()

    def test_raw_command_has_its_arguments_appended(self, settings: Any) -> None:
        settings.CHRONIKER_ALLOW_RAW_COMMANDS = True
        request = make_request(command="", raw_command="backup '--to=a b'", args="now")
        assert request.start_request.raw == ("backup", "--to=a b", "now")

    @pytest.mark.parametrize(
        "fields",
        [
            {"command": "shell"},
            {"command": "nonexistent"},
            {"args": "'open"},
            {"command": "", "raw_command": "backup"},
        ],
        ids=["refused", "unknown", "unclosed quote", "raw"],
    )
    def test_command_that_is_not_allowed_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(CommandRefused):
            make_request(**fields)

    def test_limits_are_those_of_the_job(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 60
        limits = make_request(
            timeout_seconds=90, kill_grace_seconds=5, memory_limit_mb=64, nice=10
        ).start_request.limits
        assert (limits.timeout_seconds, limits.grace_seconds, limits.nice) == (90, 5, 10)
        assert limits.memory_limit_bytes == 64 * 1024 * 1024
        sqlite = connection.vendor == "sqlite"
        assert limits.lease_deadline == (None if sqlite else pytest.approx(1054))

    def test_job_without_limits_has_the_grace_time_of_the_site(self, settings: Any) -> None:
        settings.CHRONIKER_KILL_GRACE_SECONDS = 12
        limits = make_request().start_request.limits
        assert (limits.timeout_seconds, limits.memory_limit_bytes) == (None, None)
        assert (limits.grace_seconds, limits.nice) == (12, 0)

    @pytest.mark.parametrize("stdout", [True, False])
    @pytest.mark.parametrize("stderr", [True, False])
    def test_streams_that_the_job_keeps(self, settings: Any, stdout: bool, stderr: bool) -> None:
        settings.CHRONIKER_MAX_OUTPUT_BYTES = 5000
        request = make_request(log_stdout=stdout, log_stderr=stderr, stderr_is_failure=stderr)
        assert set(request.streams) == (
            {"log"} | ({"stdout"} if stdout else set()) | ({"stderr"} if stderr else set())
        )
        assert (request.output_bytes, request.stderr_is_failure) == (5000, stderr)

    @pytest.mark.parametrize(("method", "spawn"), [("spawn", True), ("fork", False)])
    def test_start_method_is_that_of_the_site(
        self, settings: Any, method: str, spawn: bool
    ) -> None:
        settings.CHRONIKER_START_METHOD = method
        assert make_request().start_request.spawn == spawn

    def test_lock_is_held_if_the_site_wants_it(self, settings: Any, own_runtime_dir: None) -> None:
        assert make_request().lock is None
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        lock = make_request().lock
        assert lock is not None and lock.path == job_lock(7).path
        with pytest.raises(CommandRefused, match="still holds"):
            make_request()
        lock.release()


class TestLauncher:
    def claim(self, key: int, command: str = "noop") -> ClaimedRun:
        job = Job(pk=key, name=f"job {key}", command=command)
        return ClaimedRun(
            JobState(pk=key, job=job), job, Run(pk=key, job=job, scheduled_for=NOON), "token", False
        )

    def test_runs_are_started_or_refused(self, own_runtime_dir: None) -> None:
        launcher = Launcher(long_running=True)
        announced: list[Any] = []

        def receive(**details: Any) -> None:
            announced.append((details["jobs"], details["long_running"]))

        pre_fork.connect(receive)
        try:
            assert launcher.executor is None
            good, bad, again = self.claim(1), self.claim(2, "shell"), self.claim(3)
            result = launcher.start([good, bad], 0.0)
            assert [run.claimed for run in result.started] == [good]
            assert [run.handle.key for run in result.started] == [1]
            ((refused, reason),) = result.refused
            assert refused is bad and "shell" in reason
            executor = launcher.executor
            assert executor is not None
            launcher.start([again], 0.0)
            assert launcher.executor is executor
            assert announced == [([good.job], True)], "before the fork server, once"
        finally:
            pre_fork.disconnect(receive)
            launcher.close(runs_left=False)

    def test_nothing_is_forked_for_refused_runs(self, own_runtime_dir: None) -> None:
        launcher = Launcher(long_running=False)
        assert len(launcher.start([self.claim(1, "shell")], 0.0).refused) == 1
        assert launcher.executor is None
        assert launcher.descriptors() == []

    @pytest.mark.parametrize("runs_left", [True, False])
    def test_owner_is_a_lock_file_that_stays_while_runs_are_left(
        self, settings: Any, tmp_path: Path, own_runtime_dir: None, runs_left: bool
    ) -> None:
        launcher = Launcher(long_running=False)
        name = launcher.owner_name()
        path = tmp_path / "runtime" / name
        assert launcher.owner_name() == name and path.exists()
        (fd,) = launcher.descriptors()
        os.fstat(fd)
        launcher.close(runs_left=runs_left)
        assert path.exists() == runs_left
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)

    def test_host_without_a_place_for_the_lock_is_not_ready(
        self, settings: Any, tmp_path: Path
    ) -> None:
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path / "gone")
        (tmp_path / "gone").write_text("a file")
        with pytest.raises(HostNotReady):
            Launcher(long_running=False).owner_name()
