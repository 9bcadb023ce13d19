"""Every command says in one line what is wrong with the site."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.db import connection

from chroniker.management.base import ChronikerCommand
from tests.factories import make_due_job
from tests.settings import BACKEND
from tests.support.machine import REPO
from tests.support.types import RunManage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

OURS = sorted(
    name for name, app in get_commands().items() if str(app) in ("chroniker", "chroniker_monitors")
)
DUMP = REPO / "tests" / "chroniker" / "imports" / "data" / "original.json"
ARGUMENTS = {
    "run_job": ["1"], "job_chain": ["1"], "cron_clean": ["days", "1"], "check_monitor": ["volts"],
    "retire_host": ["web1"], "import_chroniker": [str(DUMP)], "chroniker_jobs": ["plan"],
    "backtest_monitor": ["volts"], "send_test_notification": ["--job", "volts"],
}  # fmt: skip
SAME_BASE = {"import_crontab", "import_celery_beat", "import_django_q", "badge"}
"""They fail in the same place as others, and each process takes its time."""
WITHOUT_DATABASE = {"chroniker_doctor", "export_monitoring", "serve_metrics", "write_metrics"}
"""They do not need it: a page or a report says that it is away, files are only written."""
DATABASE_CALLS = [
    *(
        [name, *ARGUMENTS.get(name, [])]
        for name in OURS
        if name not in WITHOUT_DATABASE | SAME_BASE
    ),
    ["cron", "--dry-run"], ["cron", "--jobs", "1"],
]  # fmt: skip
SOME_CALLS = [
    ["cron"], ["run_job", "1"], ["check_monitor", "volts"], ["add_starter_monitors"],
]  # fmt: skip
USUAL_EXIT_CODE = {"check_monitor": 3}


def assert_one_line(ended: object, words: list[str], reason: str) -> None:
    """Check exit code and text; check_monitor answers Nagios, on stdout."""
    stdout, stderr = ended.stdout, ended.stderr  # type: ignore[attr-defined]
    assert ended.returncode == USUAL_EXIT_CODE.get(words[0], 1), stderr  # type: ignore[attr-defined]
    if words[0] == "check_monitor":
        assert stdout.startswith("volts UNKNOWN: ") and stderr == ""
        stderr = stdout
    elif words[0] != "cronserver":  # it first says that it ticks
        assert stdout == ""
    assert len(stderr.splitlines()) == 1, stderr
    assert reason in stderr


@pytest.mark.one_database
@pytest.mark.parametrize("name", OURS)
def test_every_command_has_the_base(name: str) -> None:
    assert isinstance(load_command_class(get_commands()[name], name), ChronikerCommand)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", DATABASE_CALLS if BACKEND == "sqlite" else SOME_CALLS, ids=" ".join
)
def test_unreachable_database(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    env = dict(site_env)
    if connection.vendor == "sqlite":
        env["CHRONIKER_TEST_DB_NAME"] = str(tmp_path / "no" / "such" / "directory" / "db")
    else:
        env.update(PGPORT="1", MYSQL_PORT="1")
    assert_one_line(manage(*words, env=env), words, "The database cannot be reached")


@pytest.mark.one_database
@pytest.mark.slow
@pytest.mark.parametrize("words", SOME_CALLS, ids=" ".join)
def test_unmigrated_database(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    env = {**site_env, "CHRONIKER_TEST_DB_NAME": str(tmp_path / "empty.sqlite3")}
    assert_one_line(manage(*words, env=env), words, "manage.py migrate")


@pytest.mark.one_database
def test_check_monitor_in_a_run_fails_the_run(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path
) -> None:
    env = {**site_env, "CHRONIKER_TEST_DB_NAME": str(tmp_path / "empty.sqlite3")}
    ended = manage("check_monitor", "volts", env=env | {"CHRONIKER_RUN_ID": "1"})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "manage.py migrate" in ended.stderr


def own_settings(site_env: dict[str, str], tmp_path: Path, line: str) -> dict[str, str]:
    (tmp_path / "own_settings.py").write_text(f"from tests.settings import *\n{line}\n")
    return {
        **site_env, "DJANGO_SETTINGS_MODULE": "own_settings", "PYTHONPATH": f"{tmp_path}:{REPO}",
    }  # fmt: skip


@pytest.mark.one_database
@pytest.mark.slow
@pytest.mark.parametrize("words", SOME_CALLS, ids=" ".join)
def test_site_without_time_zones(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    ended = manage(*words, env=own_settings(site_env, tmp_path, "USE_TZ = False"))
    assert_one_line(ended, words, "USE_TZ")


@pytest.mark.one_database
@pytest.mark.parametrize("words", [["cron"], ["cronserver", "1"], ["run_job", "1"]], ids=" ".join)
def test_runtime_directory_that_cannot_be_created(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    job = make_due_job()
    words = [str(job.pk) if words[0] == "run_job" and word == "1" else word for word in words]
    (tmp_path / "file").touch()
    line = f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'file' / 'run')!r}"
    ended = manage(*words, env=own_settings(site_env, tmp_path, line))
    assert_one_line(ended, words, "Set CHRONIKER_RUNTIME_DIR to a directory")


@pytest.mark.one_database
def test_runtime_directory_of_the_pid_file(
    manage: RunManage, site_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    line = f"CHRONIKER_RUNTIME_DIR = {str(tmp_path / 'file' / 'run')!r}\nCHRONIKER_USE_PID = True"
    ended = manage("cron", env=own_settings(site_env, tmp_path, line))
    assert_one_line(ended, ["cron"], "CHRONIKER_RUNTIME_DIR")
