"""The ``cron`` command."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chroniker.models import JobDependency, Run
from tests.factories import make_action_job, make_due_job, make_job
from tests.support.machine import REPO
from tests.support.types import RunInFork, RunManage

pytestmark = pytest.mark.django_db(transaction=True)

DATABASE_COMMANDS = [
    ["cron"], ["cron", "--jobs", "1"], ["cron", "--dry-run"], ["run_job", "1"], ["job_chain", "1"],
    ["cron_clean", "days", "1"],
]  # fmt: skip


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

    @pytest.mark.parametrize("words", DATABASE_COMMANDS, ids=" ".join)
    def test_unreachable_database_is_reported_in_one_line(
        self, manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
    ) -> None:
        env = dict(site_env)
        if connection.vendor == "sqlite":
            env["CHRONIKER_TEST_DB_NAME"] = str(tmp_path / "no" / "such" / "directory" / "db")
        else:
            env.update(PGPORT="1", MYSQL_PORT="1")
        ended = manage(*words, env=env)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert len(ended.stderr.splitlines()) == 1
        assert "The database cannot be reached" in ended.stderr

    @pytest.mark.parametrize("words", [["cron"], ["run_job", "1"]], ids=" ".join)
    def test_unmigrated_database_is_reported_in_one_line(
        self, manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
    ) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("only SQLite creates an empty database; messages differ between databases")
        env = {**site_env, "CHRONIKER_TEST_DB_NAME": str(tmp_path / "empty.sqlite3")}
        ended = manage(*words, env=env)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert "manage.py migrate" in ended.stderr

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
