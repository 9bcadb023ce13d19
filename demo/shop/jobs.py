"""The jobs of the bookshop, as a user would define them in the admin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from chroniker.models import Job, JobDependency
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import transaction


class JobFields(TypedDict, total=False):
    """Further fields of a job."""

    timeout_seconds: int
    expected_seconds: int
    priority: int
    max_retries: int
    max_runs_kept: int
    nice: int


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job. ``quick_*`` are its values with ``seed_demo --quick``."""

    name: str
    description: str
    command: str
    schedule: str
    quick_schedule: str
    runbook: str
    args: str = ""
    quick_args: str = ""
    after: str = ""
    subscribed: bool = False
    more: JobFields = field(default_factory=JobFields)

    @property
    def anchor(self) -> str:
        """The anchor of its runbook on the front page."""
        return self.command


JOBS = (
    DemoJob(
        name="Import sales",
        description="Imports a file of 50,000 sales. A few rows are malformed.",
        command="import_sales",
        schedule="*/2 * * * *",
        quick_schedule="@every 12s",
        runbook="The lines on stderr are malformed in the file. Correct them and run the job "
        "again. Sales that are already imported are skipped.",
        subscribed=True,
        more={"timeout_seconds": 300, "expected_seconds": 60, "priority": 10, "max_retries": 2},
    ),
    DemoJob(
        name="Build the sales report",
        description="Totals per day and category, whenever the sales have been imported.",
        command="build_report",
        schedule="",
        quick_schedule="",
        runbook="It waits for “Import sales” to succeed. Check that job first.",
        after="Import sales",
        more={"timeout_seconds": 300, "expected_seconds": 30},
    ),
    DemoJob(
        name="Back up the database",
        description="Makes and checks a copy with SQLite's backup API. The last five are kept.",
        command="backup_database",
        args="--keep 5",
        quick_args="--keep 2",
        schedule="RRULE:FREQ=MINUTELY;INTERVAL=2",
        quick_schedule="RRULE:FREQ=SECONDLY;INTERVAL=10",
        runbook="Check whether the disk is full. The copies are in the directory backups.",
        subscribed=True,
        more={"timeout_seconds": 120, "expected_seconds": 20},
    ),
    DemoJob(
        name="Clear expired sessions",
        description="Django's own clearsessions.",
        command="clearsessions",
        schedule="H/2 * * * *",
        quick_schedule="* * * * * */10",
        runbook="A single failure is harmless; the table of sessions grows until the next success.",
        more={"timeout_seconds": 60},
    ),
    DemoJob(
        name="Fetch the publisher's feed",
        description="Every third request fails, and so does this job. Each failure opens an "
        "incident, until there are too many: then it is flapping.",
        command="fetch_feed",
        schedule="@every 45s",
        quick_schedule="@every 3s",
        runbook="The error is at the publisher. If it lasts, call them: extension 42.",
        subscribed=True,
        more={"timeout_seconds": 30},
    ),
    DemoJob(
        name="Reindex the search",
        description="Takes a minute, so that you can watch its progress.",
        command="reindex_search",
        args="--seconds 60",
        quick_args="--seconds 12",
        schedule="1-59/2 * * * *",
        quick_schedule="@every 15s",
        runbook="The old entries stay until they are replaced, so the search keeps working.",
        more={"timeout_seconds": 600, "expected_seconds": 90, "nice": 10},
    ),
    DemoJob(
        name="Check the stock",
        description="Lists books that will not last a week. Writes to stdout, stderr and the log.",
        command="check_stock",
        schedule="@every 90s",
        quick_schedule="@every 10s",
        runbook="Order the books that it lists.",
        more={"timeout_seconds": 60, "max_runs_kept": 100},
    ),
)


def create_jobs(subscriber: AbstractUser, *, quick: bool) -> int:
    """Create the jobs that are missing, validated as in the admin; return how many.

    Changes made in the admin are kept, except for runbook URLs, because the address of the site
    may have changed.
    """
    new = 0
    for plan in JOBS:
        runbook_url = f"{settings.SITE_URL}/#{plan.anchor}"
        if Job.objects.filter(name=plan.name).update(runbook_url=runbook_url):
            continue
        job = Job(
            name=plan.name,
            description=plan.description,
            command=plan.command,
            args=plan.quick_args if quick else plan.args,
            schedule=plan.quick_schedule if quick else plan.schedule,
            runbook_url=runbook_url,
            **plan.more,
        )
        job.full_clean()
        with transaction.atomic():
            job.save()
            if plan.subscribed:
                job.subscribers.add(subscriber)
            if plan.after:
                upstream = Job.objects.get(name=plan.after)
                dependency = JobDependency(downstream=job, upstream=upstream)
                dependency.full_clean()
                dependency.save()
        new += 1
    return new
