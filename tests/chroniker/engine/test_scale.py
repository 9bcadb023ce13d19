"""With a million jobs the due query uses an index and a tick costs as much as with a thousand."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from chroniker.engine.candidates import ClaimOptions
from chroniker.engine.claims import claim, new_token
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.models import Host, Job, JobState, Run
from tests.factories import make_job
from tests.support.processes import wait_until
from tests.support.types import StartTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("scale"),
]

HOST = "web1"


@pytest.fixture
def million() -> Iterator[None]:
    """Truncate the tables."""
    if connection.vendor != "postgresql":
        pytest.skip("the promise is for PostgreSQL")
    yield
    with connection.cursor() as cursor:
        # and the tables that refer to them
        cursor.execute("TRUNCATE chroniker_job, chroniker_host CASCADE")


def copy_job_rows(job: Job, number: int) -> None:
    """Copy a job and its state ``number`` times inside the database."""
    state = JobState.objects.get(job=job)
    with connection.cursor() as cursor:
        jobs = [f for f in Job._meta.local_concrete_fields if not f.generated and f.name != "id"]
        names = ", ".join(field.column for field in jobs)
        values = ", ".join(
            {"name": "name || ' ' || n", "planned_from": "planned_from || ' ' || n"}.get(
                field.column, field.column
            )
            for field in jobs
        )
        cursor.execute(
            f"INSERT INTO chroniker_job ({names}) SELECT {values} FROM chroniker_job,"
            " generate_series(1, %s) AS n WHERE id = %s",
            [number, job.pk],
        )
        states = [
            f for f in JobState._meta.local_concrete_fields if not f.generated and f.name != "id"
        ]
        names = ", ".join(field.column for field in states)
        values = ", ".join(
            "j.id" if field.column == "job_id" else f"s.{field.column}" for field in states
        )
        cursor.execute(
            f"INSERT INTO chroniker_jobstate ({names}) SELECT {values} FROM chroniker_jobstate s,"
            " chroniker_job j WHERE s.id = %s AND j.id > %s",
            [state.pk, job.pk],
        )
        cursor.execute("ANALYZE chroniker_job")
        cursor.execute("ANALYZE chroniker_jobstate")


def rows_and_pages_read(action: Callable[[], object], *, by_index: bool = False) -> tuple[int, int]:
    """The rows and index entries that PostgreSQL reads for a query, and the pages it touches.

    The server counts them itself; unlike a clock, the count is the same on a busy machine.
    ``by_index``: plan as for a large table, even if a small one would be read completely.
    """
    with transaction.atomic():
        if by_index:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")
        rows_before, pages_before = _read_statistics()
        action()
        rows, pages = _read_statistics()
        transaction.set_rollback(True)
    return rows - rows_before, pages - pages_before


def _read_statistics() -> tuple[int, int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT sum(pg_stat_get_xact_tuples_returned(oid)"
            " + pg_stat_get_xact_tuples_fetched(oid))::int,"
            " sum(pg_stat_get_xact_blocks_fetched(oid))::int"
            " FROM pg_class WHERE relname LIKE 'chroniker%'"
        )
        rows, pages = cursor.fetchone()
    return rows, pages


def claim_ten() -> None:
    keys = list(JobState.objects.order_by("pk").values_list("pk", flat=True)[:10])
    moment = datetime.now(UTC) - timedelta(seconds=1)
    JobState.objects.filter(pk__in=keys).update(next_slot_at=moment, next_run_at=moment)
    options = ClaimOptions(host=HOST, owner="tick-0-test.lock", max_parallel=10)
    assert len(claim(options, moment, moment, new_token()).started) == 10


def vacuum() -> None:
    """Dead row versions cost time for any number of jobs: vacuum them."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            if table.startswith("chroniker"):  # including what earlier tests left in other tables
                # By itself, PostgreSQL leaves a few hundred dead entries in large indexes.
                cursor.execute(f"VACUUM (ANALYZE, INDEX_CLEANUP ON) {table}")


def seconds_of_idle_tick() -> float:
    times = []
    for _ in range(60):
        began = time.perf_counter()
        record_heartbeat(HOST)
        times.append(time.perf_counter() - began)
    return min(times)  # other load on the machine can only add time


def seconds_of_claiming_ten() -> float:
    times = []
    keys = list(JobState.objects.order_by("pk").values_list("pk", flat=True)[:10])
    for _ in range(15):
        moment = datetime.now(UTC) - timedelta(seconds=1)
        JobState.objects.filter(pk__in=keys).update(next_slot_at=moment, next_run_at=moment)
        options = ClaimOptions(host=HOST, owner="tick-0-test.lock", max_parallel=10)
        began = time.perf_counter()
        with transaction.atomic():
            moment = datetime.now(UTC)
            taken = claim(options, moment, moment, new_token())
        times.append(time.perf_counter() - began)
        assert len(taken.started) == 10
        Run.objects.update(status="succeeded")
        JobState.objects.filter(pk__in=keys).update(
            lease_token=None, lease_expires_at=None, lease_host="", current_run=None
        )
    return min(times)  # other load on the machine can only add time


def test_tick_cost_is_the_same_for_a_million_jobs_and_a_thousand(million: None) -> None:
    job = make_job(name="one", schedule="@every 10h")
    plan_changed_jobs(datetime.now(UTC))
    Host.objects.create(name=HOST)
    copy_job_rows(job, 999)
    vacuum()
    few = {
        "idle": rows_and_pages_read(lambda: record_heartbeat(HOST), by_index=True),
        "ten": rows_and_pages_read(claim_ten, by_index=True),
    }
    idle, ten = seconds_of_idle_tick(), seconds_of_claiming_ten()
    copy_job_rows(Job.objects.order_by("-pk")[0], 999_000)
    assert JobState.objects.count() == Job.objects.count() == 1_000_000
    assert not Job.objects.needing_planning().exists()

    vacuum()
    many = {
        "idle": rows_and_pages_read(lambda: record_heartbeat(HOST)),
        "ten": rows_and_pages_read(claim_ten),
    }
    print(f"rows and pages with a thousand {few}, with a million {many}")
    for what, (rows, pages) in many.items():
        # The planner may choose other plans for the smallest tables, and an index of a million
        # rows has one more level than an index of a thousand.
        assert rows <= 1.2 * few[what][0] + 100, what
        assert pages <= 2 * few[what][1], what

    now = datetime.now(UTC)
    due = JobState.objects.due(now).for_host(HOST).unpaused(now).unblocked(now)
    plan = (
        JobState.objects.overdue(datetime.now(UTC) - timedelta(seconds=300), datetime.now(UTC))
        .order_by()[:1]
        .explain()
    )
    assert "chroniker_state_due" in plan, plan
    assert "Seq Scan on chroniker_jobstate" not in plan, plan

    plan = due.order_by("-job__priority", "due_at", "pk")[:10].explain()
    assert "chroniker_state_due" in plan, plan
    assert "Seq Scan on chroniker_jobstate" not in plan, plan
    assert "Seq Scan on chroniker_job " not in plan, plan

    idle_ratio = ten_ratio = float("inf")
    for _ in range(5):  # quiet moments are rare while other tests run
        idle_ratio = min(idle_ratio, seconds_of_idle_tick() / idle)
        ten_ratio = min(ten_ratio, seconds_of_claiming_ten() / ten)
        if max(idle_ratio, ten_ratio) < 1.2:
            break
    print(f"idle tick: {idle_ratio:.2f} times, claim of ten: {ten_ratio:.2f} times")
    # The guarantee is 1.2 on a quiet machine (see the output above); a full scan takes 70 times.
    assert idle_ratio < 1.5
    assert ten_ratio < 1.5


def test_tick_after_a_week_of_downtime_is_hardly_slower() -> None:
    """A thousand minutely jobs with 10,080 missed slots each; at most one slot is started."""
    if connection.vendor == "mysql":
        pytest.skip("the promise is for SQLite and PostgreSQL")
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", schedule="* * * * *") for n in range(1000)
    )
    plan_changed_jobs(datetime.now(UTC))
    Host.objects.create(name=HOST)
    options = ClaimOptions(host=HOST, owner="tick-0-test.lock", max_parallel=1000)

    def seconds_of_claiming_all() -> float:
        began = time.process_time()  # wall time depends on other tests that run
        with transaction.atomic():
            moment = datetime.now(UTC)
            taken = claim(options, moment, moment, new_token())
        seconds = time.process_time() - began
        assert len(taken.started) == 1000
        return seconds

    def free_and_due_since(moment: datetime) -> None:
        Run.objects.all().delete()
        JobState.objects.update(
            lease_token=None, lease_expires_at=None, lease_host="", current_run=None,
            next_slot_at=moment, next_run_at=moment,
        )  # fmt: skip

    longer = float("inf")
    for _ in range(4):
        moment = datetime.now(UTC).replace(second=0, microsecond=0)
        free_and_due_since(moment - timedelta(days=7))
        late = seconds_of_claiming_all()
        rows = Run.objects.filter(status="missed")
        assert rows.count() == 1000
        numbers = rows.values_list("missed_slots", flat=True)
        assert all(10_070 <= number <= 10_090 for number in numbers)
        free_and_due_since(moment)
        usual = seconds_of_claiming_all()
        print(f"after a week {late:.2f} s, usually {usual:.2f} s")
        longer = min(longer, late - usual)  # shared processors are slower
        if longer < 1:
            break
    assert longer < 1


def test_first_tick_after_a_week_is_hardly_slower(
    start_tick: StartTick,
) -> None:
    """A whole tick with a thousand minutely jobs and the capacity of one host."""
    if connection.vendor == "mysql":
        pytest.skip("the promise is for SQLite and PostgreSQL")
    Job.objects.bulk_create(
        Job(name=f"job {n}", command="noop", schedule="* * * * *", max_runs_kept=None)
        for n in range(1000)
    )
    plan_changed_jobs(datetime.now(UTC))

    def seconds_of_tick(away: timedelta) -> float:
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        JobState.objects.update(next_slot_at=minute - away, next_run_at=minute - away)
        Host.objects.update(tick_seconds=None)
        Run.objects.all().delete()
        # In the first second of a minute: the next slots are far away.
        tick = start_tick(max_parallel=20, now=minute + timedelta(seconds=1))
        ended = Run.objects.filter(status="succeeded")
        wait_until(lambda: ended.count() >= 60, timeout=60, interval=0.1)
        tick.kill(signal.SIGTERM)  # it finishes its runs and claims no more
        assert tick.wait(60).exit_code == 0
        started = Run.objects.exclude(status="missed")
        jobs = set(started.values_list("job", flat=True))
        assert started.count() == ended.count() == len(jobs)
        missed = Run.objects.filter(status="missed", job__in=jobs)
        numbers = list(missed.values_list("missed_slots", flat=True))
        assert numbers == ([7 * 24 * 60] * len(jobs) if away else [])
        seconds = Host.objects.get().tick_seconds
        assert seconds is not None
        return seconds

    longer = float("inf")
    for _ in range(4):  # other load may slow down either measurement
        usual = seconds_of_tick(timedelta())
        late = seconds_of_tick(timedelta(days=7))
        print(f"after a week {late:.2f} s, usually {usual:.2f} s")
        longer = min(longer, late - usual)
        if longer < 1:
            break
    assert longer < 1
