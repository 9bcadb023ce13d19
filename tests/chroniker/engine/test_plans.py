"""An idle tick reads no table from its beginning to its end, whatever the statistics say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Job, JobState

pytestmark = pytest.mark.django_db(transaction=True)  # ANALYZE commits on MariaDB

JOBS = 2000
LARGE = ("chroniker_job", "chroniker_jobstate")


@pytest.fixture(params=[True, False], ids=["analyzed", "not analyzed"])
def planned(request: pytest.FixtureRequest) -> None:
    """Jobs that are all planned, with and without statistics that say so."""
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", schedule="0 0 1 1 *") for n in range(JOBS)
    )
    Host.objects.create(name="web1")
    plan_changed_jobs(datetime.now(UTC))
    later = datetime.now(UTC) + timedelta(days=99)
    JobState.objects.update(next_slot_at=later, next_run_at=later)
    if request.param or connection.vendor == "postgresql":  # there autovacuum does
        analyze()


def analyzed(request: pytest.FixtureRequest) -> None:
    """Jobs that are all planned; the statistics say so, or that all are new."""
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", schedule="0 0 1 1 *") for n in range(JOBS)
    )
    Host.objects.create(name="web1")
    if request.param == "new":
        analyze()
    plan_changed_jobs(datetime.now(UTC))
    later = datetime.now(UTC) + timedelta(days=99)
    JobState.objects.update(next_slot_at=later, next_run_at=later)
    if request.param == "planned":
        analyze()


def analyze() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute(f"ANALYZE TABLE {', '.join(LARGE)}")
            cursor.fetchall()
        else:
            cursor.execute("ANALYZE")


def full_scans(sql: str) -> list[str]:
    """The steps of the plan that read all rows of a large table or of one of its indexes."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            steps = [row[3] for row in cursor.fetchall()]
            # In subqueries tables have aliases; the small ones are not scanned either.
            return [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step]
        if connection.vendor == "postgresql":
            cursor.execute(f"EXPLAIN {sql}")
            steps = [row[0] for row in cursor.fetchall()]
            return [s for s in steps if any(f"Seq Scan on {table} " in s for table in LARGE)]
        cursor.execute(f"EXPLAIN {sql}")
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return [str(row) for row in rows if row["type"] in ("ALL", "index")]


def sql_of(rows: QuerySet[Job]) -> str:
    with CaptureQueriesContext(connection) as queries:
        list(rows)
    return str(queries[0]["sql"])


def test_what_a_tick_has_to_do_is_found_by_indexes(planned: None) -> None:
    with CaptureQueriesContext(connection) as queries:
        record_heartbeat("web1")
    statements = [query["sql"] for query in queries if "unplanned" in query["sql"]]
    assert len(statements) == 1
    assert not full_scans(statements[0])


def test_changed_jobs_are_found_by_an_index(planned: None) -> None:
    Job.objects.filter(name="job 7").update(schedule="0 0 2 1 *")
    found = Job.objects.next_needing_planning(0, 100)
    assert [job.name for job in found] == ["job 7"]
    assert not full_scans(sql_of(found.all()))


def test_changed_jobs_come_in_the_order_of_their_keys(planned: None) -> None:
    Job.objects.update(schedule="0 0 3 1 *")
    keys = list(Job.objects.order_by("pk").values_list("pk", flat=True))
    following = Job.objects.next_needing_planning(keys[9], 100)
    assert [job.pk for job in following] == keys[10:110]
