"""Reading crontabs, and the line that the doctor recommends."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from chroniker.doctor.crontab import CronLine, crontab_line, parse_crontab


def read(text: str, *, has_user: bool = False) -> list[CronLine]:
    return list(parse_crontab(text, source="crontab", has_user=has_user))


@pytest.mark.parametrize(
    ("command", "program", "directory"),
    [
        ("/srv/venv/bin/chroniker -p /srv/site", "/srv/venv/bin/chroniker", "/srv/site"),
        ("cd /srv/site && venv/bin/chroniker", "venv/bin/chroniker", "/srv/site"),
        ("cd /srv; chroniker --project=site -q", "chroniker", "/srv/site"),
        ("/srv/venv/bin/python -m chroniker.cli -p '/srv/my site'", "/srv/venv/bin/python",
         "/srv/my site"),
        ("/srv/venv/bin/python /srv/site/manage.py cron", "/srv/venv/bin/python", "/srv/site"),
        ("cd /srv/site; ./manage.py cron", "./manage.py", "/srv/site"),
        ("chroniker", "chroniker", None),
        ("flock -n /tmp/l /srv/venv/bin/chroniker -p /srv/site", "/srv/venv/bin/chroniker",
         "/srv/site"),
    ],
)  # fmt: skip
def test_program_and_directory_of_a_line(command: str, program: str, directory: str | None) -> None:
    (line,) = read(f"* * * * * {command}")
    assert (line.program, line.directory) == (program, Path(directory) if directory else None)
    assert line.schedule == "* * * * *"


@pytest.mark.parametrize(
    "text",
    [
        "# * * * * * chroniker -p /srv/site",
        "MAILTO=chroniker",
        "* * * * * /usr/bin/backup --exclude chroniker.log",
        "* * * * * /srv/site/manage.py clearsessions",
        "* * * * *",
        "",
    ],
)
def test_other_lines_are_not_ticks(text: str) -> None:
    assert read(text) == []


def test_variables_users_and_aliases() -> None:
    first, second = read(
        "PATH=/opt/bin:/bin\n@hourly www chroniker -p /a\n*/5\t* * * *  root  chroniker -p /b\n",
        has_user=True,
    )
    assert (first.schedule, first.user, first.path) == ("@hourly", "www", "/opt/bin:/bin")
    assert (second.schedule, second.user) == ("*/5 * * * *", "root")


def test_percent_ends_a_command_unless_escaped() -> None:
    plain, escaped = read("* * * * * chroniker -p /a%b\n* * * * * chroniker -p /a\\%b\n")
    assert (plain.unescaped_percent, plain.directory) == (True, Path("/a"))
    assert (escaped.unescaped_percent, escaped.directory) == (False, Path("/a%b"))


@pytest.mark.parametrize("end", [">/dev/null 2>&1", "&> /dev/null", "2>/dev/null", "2> /dev/null"])
def test_discarded_errors_are_noticed(end: str) -> None:
    kept, lost = read(f"* * * * * chroniker -p /a > /dev/null\n* * * * * chroniker -p /a {end}\n")
    assert (kept.discards_errors, lost.discards_errors) == (False, True)


def test_recommended_line_is_read_back_and_has_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "my 100% site"
    site.mkdir()
    (site / "manage.py").write_text('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a.settings")')
    monkeypatch.setattr(sys, "argv", [str(site / "manage.py"), "chroniker_doctor"])
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "a.settings")
    (line,) = read(crontab_line())
    assert line.directory == site
    assert os.path.isabs(line.program)
    assert not line.unescaped_percent
    assert "-s" not in line.words


def test_recommended_line_names_settings_that_manage_py_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manage.py").write_text('"a.settings"')
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "manage.py"), "chroniker_doctor"])
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "a.settings.production")
    words = shlex.split(crontab_line())
    assert words[-2:] == ["-s", "a.settings.production"]
