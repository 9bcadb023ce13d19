"""The command lines: what they print, what they exit with, and what they do."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chroniker.models import JobDependency, JobState, OutputChunk, Run
from tests.factories import make_action_job, make_due_job, make_job
from tests.support.machine import REPO
from tests.support.processes import is_alive, wait_until
from tests.support.types import RunInFork, RunManage, RunTick, StartManage, StartTick

pytestmark = pytest.mark.django_db(transaction=True)

DATABASE_COMMANDS = [
    ["cron"], ["cron", "--jobs", "1"], ["cron", "--dry-run"], ["run_job", "1"], ["job_chain", "1"],
    ["cron_clean", "days", "1"],
]  # fmt: skip


def now() -> datetime:
    return datetime.now(UTC)


class TestCron:
    def test_is_silent_when_idle_or_successful(self, manage: RunManage) -> None:
        make_due_job()
        for _ in range(2):
            ended = manage("cron")
            assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert Run.objects.get().status == "succeeded"

    def test_is_silent_when_a_job_fails(self, manage: RunManage) -> None:
        """The job's failure is the job's: it is told by mail, metrics and the admin."""
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

    def test_jobs_restricts_it(self, manage: RunManage) -> None:
        one, two, _three = make_due_job(), make_due_job(), make_due_job()
        assert manage("cron", "--jobs", f"{one.pk},{two.name}").returncode == 0
        assert {run.job_id for run in Run.objects.all()} == {one.pk, two.pk}

    def test_force_run_runs_what_is_not_due(self, manage: RunManage) -> None:
        job = make_job(schedule="@every 1h")
        assert manage("cron", "--jobs", str(job.pk), "--force-run").returncode == 0
        assert Run.objects.get(job=job).trigger == "manual"

    def test_force_run_of_everything_is_refused(self, manage: RunManage) -> None:
        ended = manage("cron", "--force-run")
        assert ended.returncode == 1 and "--jobs" in ended.stderr

    def test_an_unknown_job_is_named(self, manage: RunManage) -> None:
        ended = manage("cron", "--jobs", "nobody")
        assert ended.returncode == 1 and "nobody" in ended.stderr

    def test_sync_runs_one_after_the_other(self, manage: RunManage) -> None:
        for _ in range(3):
            make_action_job("sleep 0.2")
        manage("cron", "--sync")
        runs = list(Run.objects.order_by("id"))
        assert len(runs) == 3
        for one, next_one in itertools.pairwise(runs):
            assert one.ended_at <= next_one.started_at  # type: ignore[operator]

    @pytest.mark.parametrize("words", DATABASE_COMMANDS, ids=" ".join)
    def test_an_unreachable_database_is_one_clear_line(
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
    def test_an_unmigrated_database_is_one_clear_line(
        self, manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
    ) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("an empty database is made for SQLite only; the words are those of each")
        env = {**site_env, "CHRONIKER_TEST_DB_NAME": str(tmp_path / "empty.sqlite3")}
        ended = manage(*words, env=env)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert "manage.py migrate" in ended.stderr

    def test_an_unsafe_runtime_directory_is_one_clear_line(
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
    def test_a_directory_that_takes_no_lock_file_is_one_clear_line(
        self, run_in_fork: RunInFork, settings: Any
    ) -> None:
        settings.CHRONIKER_RUNTIME_DIR = "/sys"  # root's, and nobody can make a file there
        make_due_job()

        def complaint() -> str:
            with pytest.raises(CommandError, match="CHRONIKER_RUNTIME_DIR") as refused:
                call_command("cron")
            return str(refused.value)

        assert run_in_fork(complaint).wait().value
        assert not Run.objects.exists()

    @pytest.mark.one_database
    @pytest.mark.parametrize("place", ["", "no/such/directory/cron.pid"])
    def test_a_pid_file_that_cannot_be_locked_is_one_clear_line(
        self, settings: Any, tmp_path: Path, place: str
    ) -> None:
        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / place)
        with pytest.raises(CommandError, match=r"CHRONIKER_PID_FILE cannot be locked: .+"):
            call_command("cron")

    def test_empty_jobs_option_is_not_all_jobs(self) -> None:
        with pytest.raises(CommandError, match="names no job"):
            call_command("cron", jobs=" ,")


class TestRunJob:
    def test_runs_it_shows_what_it_wrote_and_exits_0(self, manage: RunManage) -> None:
        job = make_job(command="act", args="say hello", enabled=False)
        ended = manage("run_job", job.name)
        assert ended.returncode == 0
        assert ended.stdout.startswith("hello\n")
        assert f"{job.name}: succeeded after" in ended.stdout
        assert Run.objects.get(job=job).trigger == "manual"

    def test_exits_1_when_it_fails(self, manage: RunManage) -> None:
        job = make_job(command="act", args="fail boom")
        ended = manage("run_job", str(job.pk))
        assert ended.returncode == 1
        assert "ValueError: boom" in ended.stdout

    def test_running_job_is_reported(
        self, manage: RunManage, start_tick: StartTick, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        job = make_action_job(f"sleep 100 {started}")
        tick = start_tick()
        wait_until(started.exists)
        ended = manage("run_job", job.name)
        assert ended.returncode == 1
        assert "it is running on" in ended.stderr
        JobState.objects.filter(job=job).request_stop(now())
        tick.wait(30)
        assert Run.objects.filter(job=job).count() == 1

    def test_of_several_and_of_an_unknown_one(self, manage: RunManage) -> None:
        one, two = make_job(), make_job()
        assert manage("run_job", one.name, two.name, "-q").returncode == 0
        assert Run.objects.count() == 2
        ended = manage("run_job", "nobody")
        assert ended.returncode == 1 and "There is no job nobody" in ended.stderr


class TestCronserver:
    def test_ticks_until_sigterm(self, start_manage: StartManage) -> None:
        job = make_job(schedule="@every 1s")
        server = start_manage("cronserver", "0.3")
        wait_until(lambda: Run.objects.filter(job=job, status="succeeded").count() >= 3, timeout=20)
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        state = JobState.objects.get(job=job)
        assert state.lease_token is None
        slots = list(
            Run.objects.filter(job=job, status="succeeded").values_list("scheduled_for", flat=True)
        )
        assert len(slots) == len(set(slots))

    def test_starts_the_next_while_a_long_one_runs(
        self, start_manage: StartManage, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        long_one = make_action_job(f"sleep 60 {started}")
        server = start_manage("cronserver", "0.3")
        wait_until(started.exists, timeout=20)
        quick = make_job(schedule="@every 1s")
        wait_until(lambda: Run.objects.filter(job=quick, status="succeeded").exists(), timeout=30)
        JobState.objects.filter(job=long_one).request_stop(now())
        wait_until(lambda: Run.objects.filter(job=long_one, status="stopped").exists(), timeout=30)
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0

    def test_survives_a_database_that_goes_away(self, start_manage: StartManage) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("an SQLite file has no connection to kill")
        job = make_job(schedule="@every 1s")
        server = start_manage("cronserver", "0.3")
        wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=20)
        kill_other_connections()
        ran = Run.objects.filter(job=job, status="succeeded").count()
        wait_until(
            lambda: Run.objects.filter(job=job, status="succeeded").count() > ran + 1, timeout=20
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert not Run.objects.filter(status="lost").exists()

    @pytest.mark.parametrize("seconds", ["0", "x", "-1", "nan"])
    def test_rejects_invalid_interval(self, manage: RunManage, seconds: str) -> None:
        ended = manage("cronserver", "--", seconds)
        assert ended.returncode == 2
        assert "seconds" in ended.stderr


def kill_other_connections() -> None:
    """End every connection to this database but our own, as a restart would."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        cursor.execute(
            "SELECT id FROM information_schema.processlist "
            "WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {int(number)}")


def test_a_finish_survives_the_loss_of_the_connection(
    start_tick: StartTick, tmp_path: Path
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("an SQLite file has no connection to kill")
    started = tmp_path / "started"
    job = make_action_job(f"sleep 2 {started}")
    tick = start_tick()
    wait_until(started.exists)
    kill_other_connections()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"
    assert JobState.objects.get(job=job).runs_total == 1


class TestCleaning:
    def test_deletes_old_runs_with_their_output_and_moves_no_counter(
        self, manage: RunManage, run_tick: RunTick
    ) -> None:
        job = make_action_job("say hello")
        run_tick()
        Run.objects.create(job=job, scheduled_for=now(), status="running")
        before = JobState.objects.values().get(job=job)
        Run.objects.filter(status="succeeded").update(ended_at=now() - timedelta(days=3))
        assert "Deleted 0 runs" in manage("cron_clean", "days", "4").stdout
        assert "Deleted 1 runs" in manage("cron_clean", "days", "2").stdout
        assert [run.status for run in Run.objects.all()] == ["running"]
        assert not OutputChunk.objects.exists()
        after = JobState.objects.values().get(job=job)
        assert after.pop("last_run_id") is None
        before.pop("last_run_id")
        assert after == before

    @pytest.mark.parametrize("words", [["days"], ["days", "-1"], ["years", "1"], ["days", "x"]])
    def test_rejects_invalid_arguments(self, manage: RunManage, words: list[str]) -> None:
        assert manage("cron_clean", *words).returncode == 2

    def test_only_so_many_runs_of_a_job_are_kept(self, run_tick: RunTick) -> None:
        job, other = make_job(max_runs_kept=3), make_job(max_runs_kept=None)
        run_tick()
        for _ in range(6):
            JobState.objects.all().request_run(now())
            run_tick()
        assert Run.objects.filter(job=job).count() == 3
        assert Run.objects.filter(job=other).count() == 6
        assert JobState.objects.get(job=job).runs_total == 6


class TestJobChain:
    def test_prints_order_times_and_the_critical_path(self, manage: RunManage) -> None:
        seconds = {"fetch": 10.0, "import": 60.0, "thumbnails": 5.0, "report": 20.0}
        jobs = {name: make_job(name=name) for name in seconds}
        other = make_job(name="other")
        for name, job in jobs.items():
            for _ in range(3):
                Run.objects.create(
                    job=job, scheduled_for=now(), status="succeeded", attempt=1,
                    duration_seconds=seconds[name],
                )  # fmt: skip
        for downstream, upstream in (
            ("import", "fetch"), ("thumbnails", "fetch"), ("report", "import"),
            ("report", "thumbnails"),
        ):  # fmt: skip
            JobDependency.objects.create(downstream=jobs[downstream], upstream=jobs[upstream])
        lines = manage("job_chain", "import").stdout.splitlines()
        assert lines == [
            "*      0.0 s  fetch (10.0 s)",
            "*     10.0 s  import (60.0 s), after fetch",
            "*     70.0 s  report (20.0 s), after import",
            "Critical path: fetch → import → report; 90.0 s in all.",
        ]
        lines = manage("job_chain", "fetch").stdout.splitlines()
        assert "      10.0 s  thumbnails (5.0 s), after fetch" in lines
        assert lines[-1] == "Critical path: fetch → import → report; 90.0 s in all."
        assert "time unknown" in manage("job_chain", str(other.pk)).stdout
        assert manage("job_chain", "nobody").returncode == 1


class TestProgram:
    """The console script, as the cron line calls it: no environment to speak of."""

    def call(self, site_env: dict[str, str], *words: str, **kwargs: Any) -> Any:
        env = {
            name: value
            for name, value in site_env.items()
            if name not in ("DJANGO_SETTINGS_MODULE", "PYTHONPATH")
        }
        program = Path(sys.executable).with_name("chroniker")
        return subprocess.run(
            [str(program), *words], env=env, capture_output=True, text=True, timeout=60, **kwargs
        )

    def project(self, tmp_path: Path) -> Path:
        (tmp_path / "manage.py").write_text(
            "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_settings')\n"
        )
        (tmp_path / "site_settings.py").write_text(
            f"import sys\nsys.path.insert(0, {str(REPO)!r})\nfrom tests.settings import *\n"
        )
        return tmp_path

    def test_finds_the_settings_in_manage_py(
        self, site_env: dict[str, str], tmp_path: Path
    ) -> None:
        make_due_job()
        ended = self.call(site_env, "-p", str(self.project(tmp_path)), cwd="/")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert Run.objects.get().status == "succeeded"

    def test_takes_a_virtual_environment_and_settings_by_name(
        self, site_env: dict[str, str], tmp_path: Path
    ) -> None:
        job, other = make_due_job(), make_due_job()
        ended = self.call(
            site_env, "-e", sys.prefix, "-s", "site_settings", "-p",
            str(self.project(tmp_path)), "--jobs", str(job.pk), cwd="/",
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        assert Run.objects.get().job == job != other

    def test_logs_to_a_file_or_is_quiet(self, site_env: dict[str, str], tmp_path: Path) -> None:
        project, log = str(self.project(tmp_path)), tmp_path / "chroniker.log"
        ended = self.call(site_env, "-p", project, "--jobs", "nobody", "-l", str(log))
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
        (line,) = log.read_text().splitlines()
        assert line.endswith("chroniker: There is no job nobody.") and line[:2] == "20"
        ended = self.call(site_env, "-p", project, "--jobs", "nobody", "-q")
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["-p", "/no/such/site"], "there is no directory /no/such/site"),
            (["-p", "/"], "name it with -s"),
            (["-p", "/", "-s", "no_such_settings"], "No module named 'no_such_settings'"),
            (["-e", "/no/such/venv"], "there is no virtual environment in /no/such/venv"),
        ],
    )
    def test_says_in_one_line_what_is_wrong(
        self, site_env: dict[str, str], words: list[str], message: str
    ) -> None:
        ended = self.call(site_env, *words)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert message in ended.stderr


@pytest.mark.cron
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_real_cron_daemon_runs_a_due_job_within_its_minute(
    site_env: dict[str, str], tmp_path: Path
) -> None:
    """Debian's cron, with the line that the README gives."""
    from tests.support.cron_daemon import run_cron_daemon

    (tmp_path / "manage.py").write_text(
        "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'tests.settings')\n"
    )
    job = make_job(schedule="* * * * *")
    asked = now()
    program = Path(sys.executable).with_name("chroniker")
    line = f"* * * * * {program} -p {REPO} -s tests.settings"
    with run_cron_daemon(line, site_env, tmp_path):
        wait_until(lambda: Run.objects.filter(job=job).exclude(status="running").exists(),
                   timeout=150, interval=0.5)  # fmt: skip
    run = Run.objects.filter(job=job).order_by("id").first()
    assert run is not None and run.status == "succeeded"
    assert run.scheduled_for >= asked
    assert run.started_at is not None
    assert run.started_at - run.scheduled_for < timedelta(seconds=60)


def test_a_long_write_of_a_job_does_not_cost_its_lease(run_tick: RunTick, settings: Any) -> None:
    """On SQLite a job that writes for longer than the lease keeps everybody else from writing."""
    settings.CHRONIKER_LEASE_SECONDS = 1 if connection.vendor == "sqlite" else 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    job = make_action_job("hold_write_transaction 4")
    assert run_tick().exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"


def test_other_tick_does_not_reap_a_slow_tick(
    start_tick: StartTick, run_tick: RunTick, settings: Any, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 1 if connection.vendor == "sqlite" else 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    job = make_action_job("hold_write_transaction 3")
    tick = start_tick()
    wait_until(lambda: Run.objects.filter(job=job, status="running").exists())
    for _ in range(3):
        run_tick()
    tick.wait(20)
    assert Run.objects.get(job=job).status == "succeeded"


def test_a_stopped_tick_on_this_machine_is_ended_and_its_run_lost(
    start_tick: StartTick, run_tick: RunTick, settings: Any, tmp_path: Path
) -> None:
    settings.CHRONIKER_LEASE_SECONDS = 1
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.3
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    pid = int(started.read_text())
    os.kill(tick.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: run_tick() and Run.objects.get(job=job).status == "lost", timeout=15,
                   interval=0.3)  # fmt: skip
        assert not is_alive(pid)
    finally:
        tick.kill(signal.SIGKILL)
    assert JobState.objects.get(job=job).failures_lost == 1
