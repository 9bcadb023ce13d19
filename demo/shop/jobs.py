"""The jobs of the bookshop, as somebody would define them in the admin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chroniker.models import Job, JobDependency
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import transaction


@dataclass(frozen=True, slots=True)
class DemoJob:
    """One job; ``quick_*`` is what it is given instead where nobody has minutes to watch."""

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
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        """Where its runbook is on the shop's page."""
        return self.command


JOBS = (
    DemoJob(
        name="Import sales",
        description="Reads the tills' file of 50,000 sales; a few of its rows are malformed.",
        command="import_sales",
        schedule="*/2 * * * *",
        quick_schedule="@every 12s",
        runbook="The lines named on stderr are wrong in the file: tell the shop, correct them, "
        "run the job again. What is imported already is passed over.",
        subscribed=True,
        more={"timeout_seconds": 300, "expected_seconds": 60, "priority": 10, "max_retries": 2},
    ),
    DemoJob(
        name="Build the sales report",
        description="Totals per day and category, whenever the sales have been imported.",
        command="build_report",
        schedule="",
        quick_schedule="",
        runbook="It waits for “Import sales” to succeed: look at that one first.",
        after="Import sales",
        more={"timeout_seconds": 300, "expected_seconds": 30},
    ),
    DemoJob(
        name="Back up the database",
        description="A checked copy by SQLite's backup API; the last five are kept.",
        command="backup_database",
        args="--keep 5",
        quick_args="--keep 2",
        schedule="RRULE:FREQ=MINUTELY;INTERVAL=2",
        quick_schedule="RRULE:FREQ=SECONDLY;INTERVAL=10",
        runbook="Is the disk full? Copies lie in the folder backups beside the database.",
        subscribed=True,
        more={"timeout_seconds": 120, "expected_seconds": 20},
    ),
    DemoJob(
        name="Clear expired sessions",
        description="Django's own clearsessions.",
        command="clearsessions",
        schedule="H/2 * * * *",
        quick_schedule="* * * * * */10",
        runbook="Harmless where it fails once; the table of sessions grows meanwhile.",
        more={"timeout_seconds": 60},
    ),
    DemoJob(
        name="Fetch the publisher's feed",
        description="Every third time the publisher has trouble, and so has this job. Each "
        "trouble is an incident, until there are too many: then it is flapping.",
        command="fetch_feed",
        schedule="@every 45s",
        quick_schedule="@every 3s",
        runbook="The publisher is at fault. Where it lasts, ring them up: extension 42.",
        subscribed=True,
        more={"timeout_seconds": 30},
    ),
    DemoJob(
        name="Reindex the search",
        description="Slow on purpose: watch its progress for a minute.",
        command="reindex_search",
        args="--seconds 60",
        quick_args="--seconds 12",
        schedule="1-59/2 * * * *",
        quick_schedule="@every 15s",
        runbook="The old entries stay until they are replaced: the search works all the while.",
        more={"timeout_seconds": 600, "expected_seconds": 90, "nice": 10},
    ),
    DemoJob(
        name="Check the stock",
        description="What will not last a week; writes to stdout, to stderr and to the log.",
        command="check_stock",
        schedule="@every 90s",
        quick_schedule="@every 10s",
        runbook="Order what it lists.",
        more={"timeout_seconds": 60, "max_runs_kept": 100},
    ),
)


def create_jobs(subscriber: AbstractUser, *, quick: bool) -> int:
    """Define those that are missing, validated as in the admin; how many that were.

    What somebody changed in the admin stays, but for runbooks, whose address may have changed.
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
