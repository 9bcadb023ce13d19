"""Schedules of django-celery-beat 2.9 and django-q2 1.11, from tables that they have written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_django
from django.db import connections

from chroniker.imports.celery_beat import read_celery_beat
from chroniker.imports.definitions import Import, ImportedJob
from chroniker.imports.django_q import read_django_q
from chroniker.imports.tables import NoSuchTable, read_table
from chroniker.imports.tasks import TaskMap
from chroniker.schedules import parse
from tests.support.tasks import TASKS as TASKS_MODULE
from tests.support.tasks import needs_tasks

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TASKS = TaskMap(
    {"shop.tasks.reindex": "reindex", "shop.tasks.report": "report", "shop.tasks.poll": "poll"}
)


@pytest.fixture
def peers(tmp_path: Path, django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[str]:
    """An alias of a database with the tables of both. The test needs no other one."""
    path = tmp_path / "peers.sqlite3"
    with sqlite3.connect(path) as database:
        database.executescript((DATA / "peers.sql").read_text())
    database.close()
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}
    settings = connections.configure_settings({"peers": entry, "default": {}})["peers"]
    connections.settings["peers"] = settings
    with django_db_blocker.unblock():
        yield "peers"
    connections["peers"].close()
    del connections["peers"]
    del connections.settings["peers"]


def change(peers: str, statement: str, *values: object) -> None:
    with connections[peers].cursor() as cursor:
        cursor.execute(statement, values)


def problems_of(found: Import, job: str) -> str:
    return "\n".join(f"{p.what}: {p.remedy}" for p in found.problems if p.job == job)


def by_name(found: Import) -> dict[str, ImportedJob]:
    return {job.name: job for job in found.jobs}


def upcoming(job: ImportedJob, n: int) -> list[datetime]:
    since = job.fields.get("created_at", NOW)
    assert isinstance(since, datetime)
    schedule = parse(str(job.fields["schedule"]), zone=str(job.fields["timezone"]))
    return [slot for slot in schedule.upcoming(since, n + 10) if slot > NOW][:n]


def test_celery_beat(peers: str) -> None:
    found = read_celery_beat(peers, TASKS, NOW)
    jobs = by_name(found)
    assert set(jobs) == {"reindex", "first monday", "poll", "once", "later"}
    reindex = jobs["reindex"].fields
    assert (reindex["command"], reindex["args"]) == ("reindex", "all --batch-size=50 --dry-run")
    assert (reindex["schedule"], reindex["timezone"]) == ("30 3 * * *", "Europe/Berlin")
    assert (reindex["start_deadline_seconds"], reindex["enabled"]) == (600, True)
    # Celery wants day of month and day of week to match, cron one of them.
    first, second, third = upcoming(jobs["first monday"], 3)
    assert (first, second) == (datetime(2026, 12, 7, 8, tzinfo=UTC),
                               datetime(2026, 12, 7, 20, tzinfo=UTC))  # fmt: skip
    assert third == datetime(2027, 1, 4, 8, tzinfo=UTC)
    poll = jobs["poll"]
    assert not poll.fields["enabled"]
    # Saving a disabled task forgets when it last ran.
    assert upcoming(poll, 1) == [NOW + timedelta(minutes=90)]
    assert not jobs["later"].fields["enabled"]
    named = {problem.job for problem in found.problems}
    assert named == {"busy", "sun", "new year", "unmapped", "once", "later", "poll"}
    (unmapped,) = [problem for problem in found.problems if problem.job == "unmapped"]
    assert "--map shop.tasks.other=NAME" in unmapped.remedy


@needs_tasks
def test_task_of_django_tasks_is_taken_over_with_its_arguments(peers: str) -> None:
    names = {"reindex": "shop.tasks.nightly", "poll": "poll"}
    tasks = TaskMap({f"shop.tasks.{old}": new for old, new in names.items()})
    reindex = by_name(read_celery_beat(peers, tasks, NOW))["reindex"].fields
    assert (reindex["task"], reindex["task_args"]) == ("shop.tasks.nightly", ["all"])
    assert reindex["task_kwargs"] == {"batch_size": 50, "dry_run": True, "quiet": False}
    assert "command" not in reindex
    assert TaskMap().name_of("say", f"{TASKS_MODULE}.say", Import()) == f"{TASKS_MODULE}.say"


def test_django_q(peers: str) -> None:
    found = read_django_q(peers, TASKS, NOW, "Europe/Berlin")
    jobs = by_name(found)
    assert {name: str(job.fields["schedule"]) for name, job in jobs.items()} == {
        "type I": "@every 25m",
        "type H": "30 * * * *",
        "type D": "30 23 * * *",
        "type W": "30 23 * * THU",
        "type BW": "DTSTART:20261231T233000 RRULE:FREQ=WEEKLY;INTERVAL=2",
        "type M": "30 23 L * *",
        "type BM": "30 23 L 2,4,6,8,10,12 *",
        "type Q": "30 23 L 3,6,9,12 *",
        "type Y": "30 23 L 12 *",
        "cron": "*/10 8-18 * * 1-5",
        "hooked": "30 23 * * *",
    }
    next_run = datetime(2026, 12, 31, 22, 30, tzinfo=UTC)
    for name in ("type BW", "type Q", "type Y"):
        assert upcoming(jobs[name], 1) == [next_run], name
    assert jobs["cron"].fields["args"] == "all 3 --batch-size=50 --dry-run"
    assert not jobs["hooked"].fields["enabled"]
    assert {problem.job for problem in found.problems} == {"one time", "five times", "hooked"}


def test_schedules_of_one_name_are_all_taken_over(peers: str) -> None:
    change(peers, "UPDATE django_q_schedule SET name = %s WHERE name IN (%s, %s)",
           "Poll", "type D", "type H")  # fmt: skip
    change(peers, "UPDATE django_q_schedule SET name = %s WHERE name = %s", " poll ", "type W")
    jobs = by_name(read_django_q(peers, TASKS, NOW, "UTC"))
    assert {name for name in jobs if "oll" in name} == {"Poll", "Poll #3", "poll #4"}
    # Beat's names are unique, but for spaces and capitals.
    change(peers, "UPDATE django_celery_beat_periodictask SET name = %s WHERE id = %s",
           "reindex  all", 1)  # fmt: skip
    change(peers, "UPDATE django_celery_beat_periodictask SET name = %s WHERE id = %s",
           "Reindex\nall", 2)  # fmt: skip
    assert {"reindex all", "Reindex all #2"} <= set(by_name(read_celery_beat(peers, TASKS, NOW)))


def test_names_do_not_depend_on_what_is_refused(peers: str) -> None:
    change(peers, "UPDATE django_q_schedule SET name = %s, func = %s WHERE id = %s",
           "same", "shop.tasks.other", 1)  # fmt: skip
    change(peers, "UPDATE django_q_schedule SET name = %s WHERE id = %s", "same", 2)
    assert "same #2" in by_name(read_django_q(peers, TASKS, NOW, "UTC"))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("one_off", 1, "runs once only: It was created disabled. Choose"),
        ("expires", "2026-11-30 10:00:00", "expired at 2026-11-30 10:00Z"),
        ("expires", "2026-12-31 10:00:00", "expires at 2026-12-31 10:00Z"),
        ("start_time", "2027-01-01 00:00:00", "does not start before 2027-01-01 00:00Z"),
        ("args", '"all"', 'arguments cannot be read: "all"'),
        ("kwargs", "batch_size=50", "arguments cannot be read: batch_size=50"),
    ],
)
def test_task_that_does_not_run_for_ever_or_cannot_be_read_is_created_disabled(
    column: str, value: object, words: str, peers: str
) -> None:
    assert by_name(read_celery_beat(peers, TASKS, NOW))["reindex"].fields["enabled"]
    change(peers, f"UPDATE django_celery_beat_periodictask SET {column} = %s WHERE id = 1", value)
    found = read_celery_beat(peers, TASKS, NOW)
    assert by_name(found)["reindex"].fields["enabled"] is False
    assert words in problems_of(found, "reindex")
    assert "created disabled" in problems_of(found, "reindex")


def test_queue_is_noted(peers: str) -> None:
    change(peers, "UPDATE django_celery_beat_periodictask SET queue = %s WHERE id = 1", "slow")
    assert "slow" in str(by_name(read_celery_beat(peers, TASKS, NOW))["reindex"].notes)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ("timedelta(days=3)", None, "timedelta(days=3)"),
        ("(1,", None, "(1,"),
        (None, "since=date.today()", "since=date.today()"),
        (None, "{1, 2}", "{1, 2}"),
        (None, "**options", "**options"),
        (None, "1, 2", "1, 2"),
    ],
)
def test_unreadable_arguments_are_listed_and_the_job_is_disabled(
    args: str | None, kwargs: str | None, words: str, peers: str
) -> None:
    change(peers, "UPDATE django_q_schedule SET args = %s, kwargs = %s WHERE id = 3", args, kwargs)
    found = read_django_q(peers, TASKS, NOW, "UTC")
    assert by_name(found)["type D"].fields["enabled"] is False
    assert f"arguments cannot be read: {words}" in problems_of(found, "type D")


@pytest.mark.parametrize(
    ("args", "kwargs", "line"),
    [
        ("()", "{}", ""),
        ("", "", ""),
        ("7", "{'batch_size': 5}", "7 --batch-size=5"),
        ("'a b',", "full=True", "'a b' --full"),
    ],
)
def test_readable_arguments(args: str, kwargs: str, line: str, peers: str) -> None:
    change(peers, "UPDATE django_q_schedule SET args = %s, kwargs = %s WHERE id = 3", args, kwargs)
    found = read_django_q(peers, TASKS, NOW, "UTC")
    fields = by_name(found)["type D"].fields
    assert (fields["args"], fields["enabled"]) == (line, True)
    assert problems_of(found, "type D") == ""


def test_time_it_was_due_is_listed(peers: str) -> None:
    change(peers, "UPDATE django_q_schedule SET intended_date_kwarg = %s WHERE id = 3", "day")
    found = read_django_q(peers, TASKS, NOW, "UTC")
    assert "CHRONIKER_SCHEDULED_FOR" in problems_of(found, "type D")


def test_missing_table_is_named(peers: str) -> None:
    with pytest.raises(NoSuchTable, match="'peers' has no table shop_order"):
        read_table(peers, "shop_order")
