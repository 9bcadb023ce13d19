"""The program of the crontab line: what it reads, and its error messages."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from chroniker.models import Run
from tests.factories import make_due_job, make_job
from tests.support.machine import REPO
from tests.support.processes import wait_until

MANAGE = '''#!/usr/bin/env python
"""Django's command-line utility for administrative tasks."""
import os
import sys


def main():
    """Run administrative tasks."""
    os.environ.setdefault('DJANGO_SETTINGS_MODULE', {value})
    try:
        from django.core.management import execute_from_command_line
    except ImportError as exc:
        raise ImportError("Couldn't import Django.") from exc
    execute_from_command_line(sys.argv)


if __name__ == '__main__':
    main()
'''


# --- what is wrong --------------------------------------------------------------------------


def chroniker(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO)}
    return subprocess.run(
        [sys.executable, "-m", "chroniker.cli", *arguments],
        env=inherited | env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )


def error_line(ended: subprocess.CompletedProcess[str]) -> str:
    """The one line of the error message."""
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("chroniker: ")
    return ended.stderr


def test_missing_project_is_reported(tmp_path: Path) -> None:
    reported = error_line(chroniker("-p", "nowhere", cwd=tmp_path))

    assert f"there is no directory {tmp_path}/nowhere" in reported
    assert "-p" in reported


def test_project_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "there is no directory" in error_line(chroniker("-p", "file", cwd=tmp_path))


def test_directory_without_manage_py_is_reported(tmp_path: Path) -> None:
    told = error_line(chroniker(cwd=tmp_path))

    assert f"there is no manage.py in {tmp_path}" in told
    assert "-p" in told and "-s" in told


def test_broken_manage_py_is_reported(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text(MANAGE.format(value="choose()"))

    assert "choose" in error_line(chroniker(cwd=tmp_path))


def test_manage_py_without_settings_is_reported(tmp_path: Path) -> None:
    (tmp_path / "manage.py").touch()

    reported = error_line(chroniker(cwd=tmp_path))

    assert f"{tmp_path}/manage.py does not name a settings module" in reported
    assert "-s" in reported


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["-s", "nosuch.settings"], {}),
        ([], {"DJANGO_SETTINGS_MODULE": "nosuch.settings"}),
        (["-s", "nosuch.settings"], {"DJANGO_SETTINGS_MODULE": "tests.settings"}),
    ],
)
def test_missing_settings_are_reported(
    tmp_path: Path, arguments: list[str], env: dict[str, str]
) -> None:
    assert "nosuch" in error_line(chroniker(*arguments, cwd=tmp_path, **env))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('first line\\nsecond line')", "ValueError: first line second line"),
        ("def broken(:", "SyntaxError"),
        ("INSTALLED_APPS = ['nosuch_app']", "nosuch_app"),
        ("import sys; sys.exit('the settings gave up')", "the settings gave up"),
    ],
)
def test_broken_settings_are_reported_in_one_line(tmp_path: Path, source: str, reason: str) -> None:
    (tmp_path / "weird_settings.py").write_text(source)
    (tmp_path / "manage.py").write_text(MANAGE.format(value="'weird_settings'"))

    ended = chroniker(cwd=tmp_path)

    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert reason in ended.stderr


@pytest.mark.parametrize("directory", ["nowhere", "file", "empty"])
def test_invalid_virtual_environment_is_reported(tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    reported = error_line(chroniker("-e", directory, cwd=tmp_path))

    assert f"there is no virtual environment in {directory}" in reported


def test_virtual_environment_with_broken_python_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text("no program")

    error_line(chroniker("-e", str(tmp_path), cwd=tmp_path))


def test_virtual_environment_is_entered_once_with_the_same_arguments(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "through here: $*"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)

    ended = chroniker("-e", str(tmp_path), "-p", "nowhere", cwd=tmp_path)

    assert ended.returncode == 1
    assert ended.stdout == f"through here: -m chroniker.cli -e {tmp_path} -p nowhere\n"
    assert "there is no directory" in ended.stderr


@pytest.mark.parametrize("arguments", [["--nosuch"], ["-p"], ["extra"]])
def test_invalid_arguments_show_the_usage(tmp_path: Path, arguments: list[str]) -> None:
    ended = chroniker(*arguments, cwd=tmp_path)

    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: chroniker ")
    assert "Traceback" not in ended.stderr


def test_quiet_prints_nothing_and_sets_the_exit_code(tmp_path: Path) -> None:
    ended = chroniker("-q", "-p", "nowhere", cwd=tmp_path)

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")


def test_log_file_gets_errors_with_the_time(tmp_path: Path) -> None:
    for _ in range(2):
        ended = chroniker("-l", "cron.log", "-p", "nowhere", cwd=tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")

    first, second = (tmp_path / "cron.log").read_text().splitlines()
    assert first[:4].isdigit() and first[19:21] == "Z "
    assert "there is no directory" in first
    assert "there is no directory" in second


def test_unwritable_log_is_reported(tmp_path: Path) -> None:
    reported = error_line(chroniker("-l", "no/where/cron.log", "-p", "nowhere", cwd=tmp_path))

    assert "cron.log" in reported


@pytest.mark.django_db(transaction=True)
class TestProgram:
    """Run the console script as cron does, with almost no environment."""

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
            (["-p", "/"], "there is no manage.py in /"),
            (["-p", "/", "-s", "no_such_settings"], "No module named 'no_such_settings'"),
            (["-e", "/no/such/venv"], "there is no virtual environment in /no/such/venv"),
        ],
    )
    def test_error_is_reported_in_one_line(
        self, site_env: dict[str, str], words: list[str], message: str
    ) -> None:
        ended = self.call(site_env, *words)
        assert ended.returncode == 1
        assert len(ended.stderr.splitlines()) == 1
        assert message in ended.stderr


@pytest.mark.django_db(transaction=True)
@pytest.mark.cron
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_real_cron_daemon_runs_a_due_job_within_its_minute(
    site_env: dict[str, str], tmp_path: Path
) -> None:
    """Debian's cron with the line of the README."""
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
