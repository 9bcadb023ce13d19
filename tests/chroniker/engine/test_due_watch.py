"""A scheduler that ticks in a loop learns between its ticks that it has something to start."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from chroniker.db.notifications import is_pooled, notify_due
from chroniker.engine.due_watch import DueWatch
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Job, JobState
from tests.factories import make_job
from tests.support.pgbouncer import run_pgbouncer

pytestmark = pytest.mark.django_db(transaction=True)

HOST = "web1"
LONG = 60.0
"""Longer than any test takes: what returns sooner was woken."""


@pytest.fixture
def job() -> Job:
    """A planned job without a schedule."""
    job = make_job(schedule="")
    plan_changed_jobs(datetime.now(UTC))
    return job


@pytest.fixture
def watch() -> Iterator[DueWatch]:
    """After a tick that has found nothing."""
    watch = DueWatch(HOST, lambda: datetime.now(UTC))
    watch.note_tick()
    yield watch
    connection.close()  # it listens


def in_other_process(action: object) -> None:
    """Call ``action`` soon, with a connection of its own."""

    def act() -> None:
        time.sleep(0.2)
        action()  # type: ignore[operator]
        connections.close_all()

    threading.Thread(target=act).start()


def wait_until_due(watch: DueWatch) -> float:
    began = time.monotonic()
    while time.monotonic() < began + LONG:
        watch.wait(LONG)
        if watch.is_due():
            break
    return time.monotonic() - began


def test_requested_run_wakes(job: Job, watch: DueWatch) -> None:
    in_other_process(lambda: JobState.objects.filter(job=job).request_run())
    assert wait_until_due(watch) < LONG / 2


def test_request_during_the_tick_is_noticed(job: Job, watch: DueWatch) -> None:
    JobState.objects.filter(job=job).update(run_requested_at=datetime.now(UTC))
    notify_due(connection.alias)
    with connection.cursor() as cursor:  # the notification comes with this answer
        cursor.execute("SELECT 1")
    if connection.vendor == "sqlite":
        pytest.skip("SQLite does not report the writes of the same connection")
    assert wait_until_due(watch) < LONG / 2


def test_job_of_another_host_does_not_make_a_tick(job: Job, watch: DueWatch) -> None:
    Job.objects.update(hostname="web2")
    plan_changed_jobs(datetime.now(UTC))
    watch.note_tick()
    JobState.objects.request_run()
    time.sleep(0.3)
    watch.wait(0.3)
    assert not watch.is_due()


def test_next_slot_ends_the_pause(job: Job, watch: DueWatch) -> None:
    assert watch.pause(time.monotonic()) > LONG
    soon = datetime.now(UTC) + timedelta(seconds=20)
    JobState.objects.update(next_slot_at=soon, next_run_at=soon)
    watch.note_tick()
    assert 10 < watch.pause(time.monotonic()) < 20.1


def test_due_slot_is_due(job: Job, watch: DueWatch) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    JobState.objects.update(next_slot_at=soon, next_run_at=soon)
    watch.note_tick()
    time.sleep(0.5)
    assert watch.is_due()
    assert not watch.is_due()  # at once again: the tick comes first


def test_closed_connection_is_no_error(job: Job, watch: DueWatch) -> None:
    connection.close()
    watch.wait(0.1)
    assert not watch.is_due()
    watch.note_tick()
    in_other_process(lambda: JobState.objects.filter(job=job).request_run())
    assert wait_until_due(watch) < LONG / 2


def test_lost_server_connection_is_no_error(job: Job, watch: DueWatch) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL's connection is listened to")
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

    in_other_process(terminate)
    watch.wait(1.0)
    assert not watch.is_due()
    connection.close()


def test_tick_costs_one_statement_more(job: Job, watch: DueWatch) -> None:
    with CaptureQueriesContext(connection) as queries:
        watch.note_tick()
    assert len(queries) == 1


def test_direct_connection_is_not_pooled() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("for PostgreSQL")
    connection.ensure_connection()
    assert not is_pooled(connection)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_connection_through_pgbouncer_is_pooled(mode: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("for PostgreSQL")
    with run_pgbouncer(mode) as pooler:
        pooled = connection.copy()
        pooled.settings_dict = {
            **connection.settings_dict, "HOST": "127.0.0.1", "PORT": str(pooler.port),
        }  # fmt: skip
        pooled.ensure_connection()
        assert is_pooled(pooled)
        pooled.close()
