"""Reading crontabs, and the line that the doctor recommends."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from chroniker.doctor.cron_line import crontab_line
from chroniker.doctor.crontab import CronLine, parse_crontab


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
        ("flock -w 5 /tmp/l -c 'cd /srv/site && chroniker'", "chroniker", "/srv/site"),
        ("DEBUG=1 nice -n 5 timeout -k 5 50 chroniker -p /srv/site", "chroniker", "/srv/site"),
        ("sudo -u www /srv/venv/bin/chroniker -p /srv/site", "/srv/venv/bin/chroniker",
         "/srv/site"),
        ("su www -c 'chroniker -p /srv/site'", "chroniker", "/srv/site"),
        ("bash -lc 'chroniker -p /srv/site'", "chroniker", "/srv/site"),
        ("/usr/local/bin/cronwrap -q /srv/venv/bin/chroniker -p /srv/site",
         "/srv/venv/bin/chroniker", "/srv/site"),
        ("cd /srv/site && venv/bin/python -W ignore manage.py cron >/dev/null", "venv/bin/python",
         "/srv/site"),
        ("cd /srv/site && uv run python manage.py cron", "uv", "/srv/site"),
        ("cd /srv/site && ( . venv/bin/activate; python manage.py cron )", "python", "/srv/site"),
        ("[ -d /srv/site ] && chroniker -p /srv/site || true", "chroniker", "/srv/site"),
        ("SITE=/srv/site && chroniker -p $SITE", "chroniker", "/srv/site"),
        ("cd /srv/site && chroniker -q 'oops", "chroniker", "/srv/site"),
    ],
)  # fmt: skip
def test_program_and_directory_of_a_line(command: str, program: str, directory: str | None) -> None:
    (line,) = read(f"* * * * * {command}")
    assert (line.tick.program, line.tick.directory) == (
        program,
        Path(directory) if directory else None,
    )
    assert line.schedule == "* * * * *"


@pytest.mark.parametrize(
    "text",
    [
        "# * * * * * chroniker -p /srv/site",
        "MAILTO=chroniker",
        "* * * * * /usr/bin/backup --exclude chroniker.log",
        "* * * * * /srv/site/manage.py clearsessions",
        "0 3 * * * pg_dump -Fc chroniker > /var/backups/chroniker.dump",
        "0 3 * * * cd /srv/chroniker && ./backup.sh",
        "0 3 * * * cd chroniker && ./backup.sh",
        "0 3 * * * sudo -u chroniker certbot renew",
        "0 3 * * * su chroniker -c 'certbot renew'",
        "0 3 * * * systemctl restart chroniker",
        "0 3 * * * rsync /srv/venv/bin/chroniker /backup/",
        "0 3 * * * chown chroniker /srv/site/manage.py",
        "0 3 * * * docker exec web chroniker -p /app",
        "0 3 * * * ssh web python /srv/site/manage.py cron",
        "* * * * *",
        "",
    ],
)
def test_other_lines_are_not_ticks(text: str) -> None:
    assert read(text) == []


def test_activated_environment_is_in_the_path() -> None:
    (line,) = read("HOME=/srv/site\n* * * * * . venv/bin/activate && python manage.py cron")
    assert line.tick.path == "/srv/site/venv/bin:/usr/bin:/bin"
    assert line.tick.directory == Path("/srv/site")
    (line,) = read("* * * * * source ~/venv/bin/activate && cd site && python manage.py cron")
    assert line.tick.path.startswith(f"{Path.home()}/venv/bin:")
    assert line.tick.manage == Path.home() / "site" / "manage.py"


def test_path_in_the_command_counts() -> None:
    (line,) = read("VENV=/srv/venv\n* * * * * PATH=$VENV/bin:$PATH chroniker -p /srv/site")
    assert line.tick.path == "/srv/venv/bin:/usr/bin:/bin"
    (line,) = read("* * * * * export PATH=/opt/bin; cd /srv/site; chroniker")
    assert (line.tick.path, line.tick.working_directory) == ("/opt/bin", Path("/srv/site"))


def test_variables_users_and_aliases() -> None:
    first, second = read(
        "PATH=/opt/bin:/bin\n@hourly www chroniker -p /a\n*/5\t* * * *  root  chroniker -p /b\n",
        has_user=True,
    )
    assert (first.schedule, first.user, first.tick.path) == ("@hourly", "www", "/opt/bin:/bin")
    assert (second.schedule, second.user) == ("*/5 * * * *", "root")


def test_percent_ends_a_command_unless_escaped() -> None:
    plain, escaped = read("* * * * * chroniker -p /a%b\n* * * * * chroniker -p /a\\%b\n")
    assert (plain.unescaped_percent, plain.tick.directory) == (True, Path("/a"))
    assert (escaped.unescaped_percent, escaped.tick.directory) == (False, Path("/a%b"))


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
    assert line.tick.directory == site
    assert os.path.isabs(line.tick.program)
    assert not line.unescaped_percent
    assert " -s " not in line.command


def test_recommended_line_is_that_of_the_environment_and_not_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = crontab_line()
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert crontab_line() == before
    assert str(Path(sys.prefix) / "bin") in before


def test_recommended_line_names_settings_that_manage_py_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "manage.py").write_text('"a.settings"')
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "manage.py"), "chroniker_doctor"])
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "a.settings.production")
    words = shlex.split(crontab_line())
    assert words[-2:] == ["-s", "a.settings.production"]
