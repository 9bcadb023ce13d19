"""In a worker: create jobs to measure, and check their runs."""

from __future__ import annotations

import datetime
from collections import Counter

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Model

from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.scheduler import Scheduler
from chroniker.enums import RunStatus
from chroniker.models import Job, JobState, Run
from chroniker.models.job import _definition_expression

HOURLY = "0 * * * *"
"""Due at full hours, so that a due job stays one slot late while the benchmark runs."""


def add_jobs(number: int, command: str = "noop", args: str = "") -> None:
    """Create planned jobs that are due once an hour, and register the host."""
    Job.objects.bulk_create(
        Job(name=f"job {command} {n}", command=command, args=args, schedule=HOURLY)
        for n in range(number)
    )
    Scheduler().run()


def make_due() -> None:
    """Make every job due since the last full hour, without earlier runs."""
    now = datetime.datetime.now(datetime.UTC)
    hour = now.replace(minute=0, second=0, microsecond=0)
    Run.objects.all().delete()
    JobState.objects.update(next_slot_at=hour, next_run_at=hour, last_started_at=None)


def expect_success(number: int) -> None:
    """Raise RuntimeError unless exactly this many runs exist and all have succeeded."""
    statuses = Counter(Run.objects.values_list("status", flat=True))
    if statuses != {RunStatus.SUCCEEDED: number}:
        errors = set(Run.objects.values_list("error", flat=True))
        raise RuntimeError(
            f"{number} runs should have succeeded, but there are {dict(statuses)}: {errors}"
        )


def bulk_add_jobs(number: int) -> None:
    """Create jobs that are planned for next year; the database copies all but the first.

    The scheduler would take minutes to plan so many jobs, and that is not part of an idle tick.
    """
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    first = Job.objects.create(name="one of many", command="noop", schedule=HOURLY)
    plan_changed_jobs(moment)
    JobState.objects.update(next_slot_at=moment, next_run_at=moment)
    state = JobState.objects.get()
    mysql = connection.vendor == "mysql"
    name = "CONCAT(name, %s)" if mysql else "name || %s"
    with connection.cursor() as cursor:
        existing = 1
        while existing < number:  # twice as many each time
            more = min(existing, number - existing)
            cursor.execute(
                _copy_sql(Job, name=name, planned_from="''") + f" ORDER BY id LIMIT {more}",
                [f" {existing}"],
            )
            existing += more
        Job.objects.filter(planned_from="").update(planned_from=_definition_expression())
        copies = _copy_sql(JobState, job="job.id").replace(" FROM ", " FROM chroniker_job AS job, ")
        where = " WHERE chroniker_jobstate.id = %s AND job.id <> %s"
        cursor.execute(copies + where, [state.pk, first.pk])
        analyze(cursor)
    Scheduler().run()
    if JobState.objects.count() != number or Job.objects.needing_planning().exists():
        raise RuntimeError("the jobs were not created as planned")


def analyze(cursor: CursorWrapper) -> None:
    """Let the database count its rows, as autovacuum does within a minute.

    A planner that knows that nearly all rows are equal may leave an index.
    """
    if connection.vendor == "mysql":
        cursor.execute("ANALYZE TABLE chroniker_job, chroniker_jobstate, chroniker_run")
        cursor.fetchall()
    else:
        cursor.execute("ANALYZE")


def _copy_sql(model: type[Model], **overrides: str) -> str:
    """Return INSERT ... SELECT that copies rows, except for their keys and the overrides."""
    quote = connection.ops.quote_name
    table = model._meta.db_table
    wanted = {
        quote(field.column or ""): overrides.get(field.name)
        or f"{table}.{quote(field.column or '')}"
        for field in model._meta.concrete_fields
        if not field.primary_key and not field.generated
    }
    columns, values = ", ".join(wanted), ", ".join(wanted.values())
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table}"
