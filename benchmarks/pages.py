"""Pages of the admin with many jobs and runs."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import pairwise
from typing import Any

from .databases import BenchmarkDatabase
from .figures import SCALE_RUN, Figure, Limit, PairedValue, compare_with_floor

NOTE = (
    "server time of pages with 1,000 jobs and 512,000 runs (--scale: 1,024,000), as a "
    "superuser: the list of 100 jobs against the list of 100 users in Django's own admin with as "
    "many columns and filters, measured directly after each other; each of the other pages."
)
RUN_ONCE = False
JOBS, DOUBLINGS = 1000, 9
ROUNDS = 9
LIST = Limit(1.5, informative=True)
PAGE = Limit(300, informative=True)
DAYS = 30


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the server time of pages."""
    measured = database.call(measure, scale=SCALE_RUN.get())
    pairs = [PairedValue(*pair) for pair in measured["list"]]
    found = [compare_with_floor("list of jobs, to the stock list", "ms", pairs, LIST)]
    found += [
        Figure(f"page: {name}", milliseconds, "ms", limit=PAGE)
        for name, milliseconds in measured["pages"].items()
    ]
    return found


# --- in a worker ----------------------------------------------------------------------------


def measure(scale: bool) -> dict[str, Any]:
    """Return milliseconds."""
    from django.contrib.auth.models import User
    from django.test import Client

    from . import databases

    databases.empty()
    populate(DOUBLINGS + scale)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))

    def milliseconds(url: str) -> float:
        began = time.perf_counter()
        response = client.get(url)
        if response.status_code != 200:
            raise RuntimeError(f"{url} answered {response.status_code}")
        return (time.perf_counter() - began) * 1000

    jobs, stock = "/admin/chroniker/job/", "/stock/auth/user/"
    for url in (jobs, stock):
        milliseconds(url)
    listed = [(milliseconds(jobs), milliseconds(stock)) for _ in range(ROUNDS)]
    pages = {}
    for name, url in page_urls().items():
        milliseconds(url)
        pages[name] = sorted(milliseconds(url) for _ in range(5))[2]
    return {"list": listed, "pages": pages}


def page_urls() -> dict[str, str]:
    """The pages, by name."""
    from chroniker.models import Incident, Job, Run

    job, run = Job.objects.earliest("pk"), Run.objects.latest("pk")
    incident = Incident.objects.earliest("pk")
    ids = ",".join(str(pk) for pk in Job.objects.values_list("pk", flat=True)[:100])
    admin = "/admin/chroniker"
    return {
        "overview": f"{admin}/job/overview/",
        "overview, update": f"{admin}/job/overview/live/",
        "job": f"{admin}/job/{job.pk}/",
        "job, form": f"{admin}/job/{job.pk}/change/",
        "100 rows, update": f"{admin}/job/live/?ids={ids}",
        "calendar, day": f"{admin}/job/calendar/?span=day",
        "calendar, week": f"{admin}/job/calendar/?span=week",
        "list of runs": f"{admin}/run/",
        "runs, search by name": f"{admin}/run/?q=job+0500",
        "runs, search by error": f"{admin}/run/?q=disk+nearly+full",
        "run": f"{admin}/run/{run.pk}/change/",
        "incident": f"{admin}/incident/{incident.pk}/change/",
    }


ERROR_INDEX = (
    "CREATE INDEX chroniker_run_error_trgm ON chroniker_run USING gin (UPPER(error) gin_trgm_ops)"
    " WHERE error <> ''"
)
"""The one of docs/how-to/databases.md."""


def populate(doublings: int) -> None:
    """1,000 jobs, each with a state and 2**``doublings`` runs; every tenth one fails, some run."""
    from django.contrib.auth.models import User
    from django.db import connection
    from django.utils.timezone import now as utc_now

    from chroniker.models import Host, Incident, Job, JobDependency, JobState, Run

    from .jobs import analyze

    now = utc_now()
    User.objects.bulk_create(
        User(username=f"user{n:04}", email=f"user{n}@example.com", last_name=f"Name {n}")
        for n in range(JOBS)
    )
    Host.objects.bulk_create(Host(name=f"web{n}", last_tick_at=now) for n in range(5))
    schedules = ("*/5 * * * *", "H * * * *", "H H * * *", "0 3 * * *", "@every 90m",
                 "RRULE:FREQ=WEEKLY;BYDAY=MO", "30 6 1 * *", "*/15 8-18 * * *")  # fmt: skip
    jobs = Job.objects.bulk_create(
        Job(name=f"job {n:04}", command="noop", args=f"--shard {n}", timeout_seconds=600,
            schedule=schedules[n % len(schedules)])
        for n in range(JOBS)
    )  # fmt: skip
    jobs = list(Job.objects.order_by("pk"))
    JobDependency.objects.bulk_create(
        JobDependency(downstream=after, upstream=first) for first, after in pairwise(jobs[:21])
    )
    Run.objects.bulk_create(
        Run(
            job=job,
            ran_on=f"web{n % 5}",
            scheduled_for=now - timedelta(days=DAYS) * n / JOBS,
            started_at=now - timedelta(days=DAYS) * n / JOBS,
            ended_at=now - timedelta(days=DAYS) * n / JOBS,
            duration_seconds=10.0 + n % 60,
            status="failed" if n % 10 == 0 else "succeeded",
            error="ValueError: boom" if n % 10 == 0 else "",
        )
        for n, job in enumerate(jobs)
    )
    columns = [
        field.column
        for field in Run._meta.concrete_fields
        if not field.primary_key and not field.generated and field.column != "attempt"
    ]
    names = ", ".join(connection.ops.quote_name(column) for column in columns)
    table = connection.ops.quote_name(Run._meta.db_table)
    with connection.cursor() as cursor:
        for doubling in range(doublings):
            cursor.execute(
                f"INSERT INTO {table} ({names}, attempt) "
                f"SELECT {names}, attempt + {2**doubling} FROM {table}"
            )
    Run.objects.filter(job=jobs[501], attempt__lte=40).update(error="OSError: disk nearly full")
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            cursor.execute(ERROR_INDEX)
        analyze(cursor)
    last = {job: pk for pk, job in Run.objects.order_by("pk").values_list("pk", "job")}
    states = [
        JobState(
            job=job,
            planned_from=job.definition,
            next_slot_at=now + timedelta(minutes=n % 600),
            next_run_at=now + timedelta(minutes=n % 600),
            last_run_id=last[job.pk],
            last_status="failed" if n % 10 == 0 else "succeeded",
            last_started_at=now - timedelta(minutes=5),
            last_ended_at=now - timedelta(minutes=4),
            last_duration_seconds=60.0,
            consecutive_failures=3 if n % 10 == 0 else 0,
            runs_total=2**doublings,
            **(
                {"lease_token": f"t{n}", "lease_host": "web1", "parts_done": n,
                 "parts_total": JOBS, "progress_at": now,
                 "lease_expires_at": now + timedelta(hours=1)}
                if n % 50 == 1
                else {}
            ),
        )
        for n, job in enumerate(jobs)
    ]  # fmt: skip
    JobState.objects.bulk_create(states)
    Incident.objects.bulk_create(
        Incident(job=job, kind="failing", severity="critical", summary="ValueError: boom",
                 opened_at=now, last_seen_at=now)
        for job in jobs[::50]
    )  # fmt: skip
