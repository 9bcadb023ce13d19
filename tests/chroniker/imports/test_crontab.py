"""Lines of a crontab become jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from chroniker.imports.crontab import read_crontab
from chroniker.imports.definitions import Import, ImportedJob

PROJECT = Path("/srv/site")


def read(text: str, *, has_user: bool = False) -> Import:
    return read_crontab(text, zone="Europe/Berlin", has_user=has_user, project=PROJECT)


def only(found: Import) -> ImportedJob:
    assert found.problems == []
    (job,) = found.jobs
    return job


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("/srv/venv/bin/python /srv/site/manage.py clearsessions",
         {"command": "clearsessions", "args": "", "raw_command": ""}),
        ("cd /srv/site && venv/bin/python manage.py act say 'a b' > /dev/null 2>&1",
         {"command": "act", "args": "say 'a b'", "raw_command": ""}),
        ("cd /srv/site; ./manage.py act say | logger -t act",
         {"command": "act", "args": "say", "raw_command": ""}),
        ("cd /srv/other && python manage.py act say",
         {"command": "", "args": "", "raw_command": "python manage.py act say"}),
        ("/usr/bin/backup --date=\\%F >> /dev/null",
         {"command": "", "args": "", "raw_command": "/usr/bin/backup --date=%F"}),
    ],
)  # fmt: skip
def test_command_of_this_site_or_raw_command(command: str, fields: dict[str, str]) -> None:
    job = only(read(f"*/5 * * * * {command}"))
    assert {name: job.fields[name] for name in fields} == fields
    assert (job.fields["schedule"], job.fields["timezone"]) == ("*/5 * * * *", "Europe/Berlin")


def test_comment_above_is_the_name_and_names_are_unique() -> None:
    found = read("# Sweep\n@daily /bin/sweep\n# Sweep\n@hourly /bin/sweep\n\n@weekly /bin/mop -w\n")
    assert [job.name for job in found.jobs] == ["Sweep", "Sweep #4", "/bin/mop -w"]


def test_names_do_not_depend_on_what_is_refused() -> None:
    text = "# Sweep\n{} /bin/sweep\n# Sweep\n@hourly /bin/sweep -h\n"
    before = read(text.format("99 * * * *"))
    after = read(text.format("9 * * * *"))
    assert [job.name for job in before.jobs] == ["Sweep #4"]
    assert [job.name for job in after.jobs] == ["Sweep", "Sweep #4"]


def test_diagram_of_the_fields_is_no_name() -> None:
    diagram = "# .----- minute\n# |  .-- hour\n# *  *  *  *  * user-name command\n"
    assert only(read(f"{diagram}@daily /bin/sweep\n")).name == "/bin/sweep"


def test_time_zone_and_user() -> None:
    job = only(read("CRON_TZ=Asia/Tokyo\nMAILTO=root\n0 3 * * * www /bin/sweep\n", has_user=True))
    assert job.fields["timezone"] == "Asia/Tokyo"
    assert job.fields["raw_command"] == "/bin/sweep"
    assert job.notes == ("it ran as www; a job runs as the user of the tick",)


def test_program_that_only_the_path_of_the_crontab_finds_is_noted() -> None:
    text = "PATH=/opt/bin:/bin\n0 3 * * * {}sweep -a\n"
    assert only(read(text.format("/opt/bin/"))).notes == ()
    (note,) = only(read(text.format(""))).notes
    assert note == "the crontab sets PATH=/opt/bin:/bin; write the whole path of sweep"


@pytest.mark.parametrize(
    "command",
    [
        "/srv/venv/bin/chroniker -p /srv/site",
        "/srv/venv/bin/python /srv/site/manage.py cron",
        "DEBUG=1 /srv/venv/bin/chroniker -p /srv/site",
        "cd /srv/site && A=1 B=2 venv/bin/python manage.py cron",
    ],
)
def test_the_tick_itself_is_no_job(command: str) -> None:
    found = read(f"* * * * * {command}")
    assert (found.jobs, found.problems) == ([], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("@reboot /bin/sweep", "machine starts"),
        ("0 0 31 2 * /bin/sweep", "schedule"),
        ("60 * * * * /bin/sweep", "schedule"),
        ("* * * * /bin/sweep", "incomplete"),
        ("* * * * *", "incomplete"),
        ("0 3 * * * /bin/mail ann%Hello", "standard input"),
        ("0 3 * * * /bin/dump | gzip > /x", "needs a shell"),
        ("0 3 * * * /bin/dump $HOME", "needs a shell"),
        ("0 3 * * * [ -x /bin/a ] && /bin/a", "needs a shell"),
        ("0 3 * * * /bin/say 'open", "quotes"),
        ("DEBUG=1", "variable DEBUG"),
        ("0 3 * * * DEBUG=1 /bin/sweep", "sets the variable DEBUG for its command"),
        ("0 3 * * * cd /srv/site && LANG=C python manage.py act say", "variable LANG"),
        ("0 3 * * * exec /bin/sweep", "needs a shell"),
        ("0 3 * * * cd /srv/site &&", "no command"),
        ("0 3 * * * . /etc/profile", "needs a shell"),
    ],
)
def test_what_cannot_be_a_job_is_named(line: str, reason: str) -> None:
    found = read(line)
    assert found.jobs == []
    (problem,) = found.problems
    assert reason in problem.what
    assert problem.remedy
