"""The ``cron`` command."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils.timezone import now

from chroniker.models import Host, JobDependency, Run
from tests.factories import make_action_job, make_due_job, make_job, make_maintenance
from tests.support.machine import REPO
from tests.support.processes import wait_until
from tests.support.runs import request_stop
from tests.support.types import RunInFork, RunManage, StartTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


def most_at_a_time(runs: list[Run]) -> int:
    """The largest number of runs that ran at one moment."""
    return max(
        sum(
            other.started_at <= run.started_at < other.ended_at  # type: ignore[operator]
            for other in runs
        )
        for run in runs
    )


class TestCron:
    def test_is_silent_when_idle_or_successful(self, manage: RunManage) -> None:
        make_due_job()
        for _ in range(2):
            ended = manage("cron")
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert Run.objects.get().status == "succeeded"

    def test_is_silent_when_a_job_fails(self, manage: RunManage) -> None:
        """A failed job is reported by email, metrics and the admin, not by ``cron``."""
        make_action_job("fail boom")
        ended = manage("cron")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")

    def test_dry_run_lists_in_order_and_runs_nothing(self, manage: RunManage) -> None:
        then, first = make_due_job(name="report"), make_due_job(name="import")
        JobDependency.objects.create(downstream=then, upstream=first)
        ended = manage("cron", "--dry-run")
        assert [line.split(" (due")[0] for line in ended.stdout.splitlines()] == [
            "import", "report",
        ]  # fmt: skip
        assert not Run.objects.exists()

    def test_jobs_option_selects_jobs(self, manage: RunManage) -> None:
        one, two, _three = make_due_job(), make_due_job(), make_due_job()
        assert manage("cron", "--jobs", f"{one.pk},{two.name}").returncode == 0
        assert {run.job_id for run in Run.objects.all()} == {one.pk, two.pk}

    def test_force_run_runs_jobs_that_are_not_due(self, manage: RunManage) -> None:
        job = make_job(schedule="@every 1h")
        assert manage("cron", "--jobs", str(job.pk), "--force-run").returncode == 0
        assert Run.objects.get(job=job).trigger == "manual"

    @pytest.mark.parametrize("sync", [False, True], ids=["parallel", "sync"])
    def test_force_run_runs_all_jobs_some_at_a_time(
        self, run_in_fork: RunInFork, settings: Any, sync: bool
    ) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 3
        jobs = [make_job(command="act", args="sleep 0.1") for _ in range(7)]
        names = ",".join(str(job.pk) for job in jobs)
        ended = run_in_fork(call_command, "cron", jobs=names, force_run=True, sync=sync).wait()
        assert (ended.exit_code, ended.output) == (0, "")
        runs = list(Run.objects.all())
        assert sorted(run.job_id for run in runs) == [job.pk for job in jobs]
        assert {(run.status, run.trigger) for run in runs} == {("succeeded", "manual")}
        assert most_at_a_time(runs) == (1 if sync else 3)

    def test_force_run_waits_for_capacity_that_another_tick_uses(
        self, run_in_fork: RunInFork, start_tick: StartTick, tmp_path: Path, settings: Any
    ) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        started = tmp_path / "started"
        make_action_job(f"sleep 1 {started}")
        tick = start_tick()
        wait_until(started.exists)
        job = make_job()
        forced = run_in_fork(call_command, "cron", jobs=str(job.pk), force_run=True).wait()
        assert forced.exit_code == 0, forced.stderr
        assert Run.objects.get(job=job).status == "succeeded"
        tick.wait()
        assert most_at_a_time(list(Run.objects.all())) == 1

    def test_force_run_that_waits_for_capacity_can_be_stopped(
        self, run_in_fork: RunInFork, start_tick: StartTick, tmp_path: Path, settings: Any
    ) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        started = tmp_path / "started"
        long_one = make_action_job(f"sleep 60 {started}")
        tick = start_tick()
        wait_until(started.exists)
        job = make_job()
        forced = run_in_fork(call_command, "cron", jobs=str(job.pk), force_run=True)
        claims = Host.objects.get().claims
        wait_until(lambda: Host.objects.get().claims > claims)
        forced.kill(signal.SIGTERM)
        ended = forced.wait(20)
        assert (ended.exit_code, "1 not run" in ended.stderr) == (1, True)
        request_stop(long_one)
        tick.wait()

    def test_force_run_says_which_jobs_did_not_run(self, manage: RunManage) -> None:
        here, elsewhere, paused = make_job(), make_job(hostname="web7"), make_job()
        make_maintenance(now(), 60, paused, pause=True)
        names = f"{here.pk},{elsewhere.pk},{paused.pk}"
        ended = manage("cron", "--force-run", "--jobs", names)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "2 not run" in ended.stderr
        assert f"{elsewhere.name}: it runs on web7 only" in ended.stderr
        assert f"{paused.name}: a maintenance window pauses it" in ended.stderr
        assert [run.job_id for run in Run.objects.all()] == [here.pk]

    def test_force_run_on_a_paused_host_says_so(self, manage: RunManage) -> None:
        job = make_job()
        assert manage("cron").returncode == 0
        Host.objects.update(paused=True)
        ended = manage("cron", "--force-run", "--jobs", str(job.pk))
        assert ended.returncode == 1
        assert "is paused; resume it in the admin" in ended.stderr

    def test_force_run_waits_in_line_for_the_pid_file(
        self, run_in_fork: RunInFork, start_tick: StartTick, settings: Any, tmp_path: Path
    ) -> None:
        """Nobody else would do its work."""
        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / "cron.pid")
        started = tmp_path / "started"
        make_action_job(f"sleep 1 {started}")
        jobs = [make_job() for _ in range(3)]
        first = run_in_fork(call_command, "cron")
        wait_until(started.exists)
        forced = [
            run_in_fork(call_command, "cron", jobs=str(job.pk), force_run=True) for job in jobs
        ]
        assert [one.wait().exit_code for one in (first, *forced)] == [0, 0, 0, 0]
        assert Run.objects.filter(trigger="manual", status="succeeded").count() == 3

    def test_force_run_without_jobs_is_rejected(self, manage: RunManage) -> None:
        ended = manage("cron", "--force-run")
        assert ended.returncode == 1 and "--jobs" in ended.stderr

    def test_unknown_job_is_reported_by_name(self, manage: RunManage) -> None:
        ended = manage("cron", "--jobs", "nobody")
        assert ended.returncode == 1 and "nobody" in ended.stderr

    def test_sync_runs_jobs_in_sequence(self, manage: RunManage) -> None:
        for _ in range(3):
            make_action_job("sleep 0.2")
        manage("cron", "--sync")
        runs = list(Run.objects.order_by("id"))
        assert len(runs) == 3
        for one, next_one in itertools.pairwise(runs):
            assert one.ended_at <= next_one.started_at  # type: ignore[operator]

    def test_unsafe_runtime_directory_is_reported_in_one_line(
        self, manage: RunManage, site_env: dict[str, str], tmp_path: Path
    ) -> None:
        make_due_job()
        tmp_path.chmod(0o777)
        (tmp_path / "unsafe_settings.py").write_text(
            f"from tests.settings import *\nCHRONIKER_RUNTIME_DIR = {str(tmp_path)!r}\n"
        )
        env = {
            **site_env,
            "DJANGO_SETTINGS_MODULE": "unsafe_settings",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}",
        }
        ended = manage("cron", env=env)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert "CHRONIKER_RUNTIME_DIR" in ended.stderr

    @pytest.mark.one_database
    def test_unwritable_lock_directory_is_reported_in_one_line(
        self, run_in_fork: RunInFork, settings: Any
    ) -> None:
        settings.CHRONIKER_RUNTIME_DIR = "/sys"  # no user can create a file there, not even root
        make_due_job()

        def complaint() -> str:
            with pytest.raises(CommandError, match="CHRONIKER_RUNTIME_DIR") as refused:
                call_command("cron")
            return str(refused.value)

        assert run_in_fork(complaint).wait().value
        assert not Run.objects.exists()

    @pytest.mark.one_database
    @pytest.mark.parametrize("place", ["", "no/such/directory/cron.pid"])
    def test_unusable_pid_file_is_reported_in_one_line(
        self, settings: Any, tmp_path: Path, place: str
    ) -> None:
        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / place)
        with pytest.raises(CommandError, match=r"CHRONIKER_PID_FILE cannot be locked: .+"):
            call_command("cron")

    def test_empty_jobs_option_is_not_all_jobs(self) -> None:
        with pytest.raises(CommandError, match="names no job"):
            call_command("cron", jobs=" ,")
