"""Leftovers: what ended runs, hosts that are gone and earlier software left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta

from django.apps import apps

from chroniker.models import JobState, MaintenanceJob, Run

from .database import read_database_clock
from .findings import Area, Finding, Level
from .registry import Installation, Needs, examination

_ORPHANED = timedelta(minutes=10)
_OTHER_SCHEDULERS = {
    "django_celery_beat": "django-celery-beat",
    "django_q": "django-q2",
    "django_cron": "django-cron",
    "django_apscheduler": "django-apscheduler",
    "django_crontab": "django-crontab",
}


@examination(Area.LEFTOVERS, Needs.TABLES)
def examine_runs(installation: Installation) -> Iterator[Finding]:
    """Find runs whose owner is gone and that no tick has ended."""
    before = read_database_clock() - _ORPHANED
    stale = JobState.objects.filter(lease_token__isnull=False, lease_expires_at__lt=before)
    number = stale.count()
    if number:
        yield Finding(
            Area.LEFTOVERS,
            "leftovers.stale-leases",
            Level.ERROR,
            f"Runs whose lease ran out more than ten minutes ago: {number}. Their jobs do not "
            "start again.",
            "Let any host tick: it records these runs as lost, and the jobs start again.",
        )
    owned = JobState.objects.filter(current_run__isnull=False).values("current_run")
    orphans = Run.objects.running().filter(started_at__lt=before).exclude(pk__in=owned).count()
    if orphans:
        yield Finding(
            Area.LEFTOVERS,
            "leftovers.orphaned-runs",
            Level.WARNING,
            f"Runs that are stored as running, but that no job has: {orphans}. They keep their "
            "jobs from starting.",
            "They come from a restored or edited database. Delete them in the admin.",
        )


@examination(Area.LEFTOVERS, Needs.TABLES)
def examine_windows(installation: Installation) -> Iterator[Finding]:
    """Find maintenance windows that mute everything and seem forgotten."""
    from chroniker.models import Maintenance

    now = read_database_clock()
    listed = MaintenanceJob.objects.values("maintenance")
    forgotten = (
        Maintenance.objects.active(now)
        .filter(starts_at__lt=now - timedelta(days=7))
        .exclude(pk__in=listed)
    )
    for window in forgotten[:3]:
        does = "pauses" if window.pause else "mutes"
        yield Finding(
            Area.LEFTOVERS,
            "leftovers.maintenance",
            Level.WARNING,
            f"A maintenance window {does} all jobs for more than a week: {window}.",
            "End it in the admin if the work is done.",
        )


@examination(Area.LEFTOVERS)
def examine_schedulers(installation: Installation) -> Iterator[Finding]:
    """Find other schedulers of the site, which may start the same work twice."""
    for name, title in _OTHER_SCHEDULERS.items():
        if apps.is_installed(name):
            yield Finding(
                Area.LEFTOVERS,
                "leftovers.other-scheduler",
                Level.WARNING,
                f"{title} is in INSTALLED_APPS as well; what both schedule runs twice.",
                "docs/how-to/migrate.md says how to take its schedules over. Keep it only for "
                "what you leave there.",
            )
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR") and not os.path.isdir(
        os.environ["PROMETHEUS_MULTIPROC_DIR"]
    ):
        yield Finding(
            Area.LEFTOVERS,
            "leftovers.multiproc-directory",
            Level.ERROR,
            "PROMETHEUS_MULTIPROC_DIR names a directory that does not exist, so processes of the "
            "site that count metrics fail.",
            "Create it before the site starts, or remove the variable.",
        )
