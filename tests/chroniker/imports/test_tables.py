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

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
TASKS = TaskMap(
    {"shop.tasks.reindex": "reindex", "shop.tasks.report": "report", "shop.tasks.poll": "poll"}
)


@pytest.fixture(scope="module")
def peers(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[str]:
    """An alias of a database with the tables of both. The test needs no other one."""
    path = tmp_path_factory.mktemp("peers") / "peers.sqlite3"
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
    assert "--map shop.tasks.other=COMMAND" in unmapped.remedy


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


def test_missing_table_is_named(peers: str) -> None:
    with pytest.raises(NoSuchTable, match="'peers' has no table shop_order"):
        read_table(peers, "shop_order")
