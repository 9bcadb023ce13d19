"""The monitors of the bookshop, as a user would define them in the admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chroniker_monitors.models import Monitor, Probe
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import transaction
from django.utils.text import slugify

TILL = "Till number one"


@dataclass(frozen=True, slots=True)
class DemoMonitor:
    """One monitor. ``quick`` replaces some of its fields with ``seed_demo --quick``."""

    name: str
    description: str
    kind: str
    params: Mapping[str, object]
    runbook: str
    fields: Mapping[str, Any]
    """Fields of job and probe, such as schedule and thresholds."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    subscribed: bool = False

    @property
    def anchor(self) -> str:
        """The anchor of its runbook on the front page."""
        return slugify(self.name)


QUICK_SCHEDULE = {"schedule": "@every 8s"}


def demo_monitors() -> list[DemoMonitor]:
    """Return all monitors, with the addresses of the settings."""
    return [
        DemoMonitor(
            "Disk of the site",
            "How full the file system of the shop's data is, on each host.",
            "disk",
            {"path": str(settings.STATE_DIR), "measure": "percent_used"},
            "Delete old backups, or use a larger disk.",
            {"warning": 90, "critical": 97, "hostname": "*", "schedule": "* * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Memory of the host",
            "Three samples in a row have to exceed the threshold, so that a short peak is ignored.",
            "memory",
            {"measure": "percent_used"},
            "Find the process that uses the memory in the list of processes.",
            {"warning": 90, "critical": 97, "consecutive": 3, "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Database latency",
            "The time to connect and to receive the result of a query.",
            "database",
            {"alias": "default", "measure": "latency"},
            "Check the running jobs for one that holds the lock for a long time.",
            {"warning": 0.5, "critical": 2, "consecutive": 3, "schedule": "@every 20s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Unapplied migrations",
            "Migrations that are not applied after a release.",
            "migrations",
            {"alias": "default"},
            "Run manage.py migrate.",
            {"warning": 0, "schedule": "*/2 * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Books about to run out",
            "Counts rows of the shop's model, for each category.",
            "records",
            {
                "model": "shop.Book",
                "measure": "count",
                "filters": "stock__lt = 5",
                "group_by": "category",
            },
            "Order the books that “Check the stock” lists.",
            {"warning": 10, "critical": 40, "unit": "books", "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Books that will not last a week",
            "The number that “Check the stock” reports. It has no value before the first import.",
            "command",
            {"command": "check_stock", "mode": "report"},
            "Order the books that “Check the stock” lists.",
            {"warning": 50, "critical": 150, "unit": "books", "schedule": "* * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Last announcement of the publisher",
            "Its age. It grows while the feed fails: warning, then critical, then ok again.",
            "records",
            {
                "model": "shop.FeedItem",
                "measure": "newest_seconds",
                "field": "fetched_at",
                "when_empty": 0,
            },
            "Check the job “Fetch the publisher's feed”.",
            {"warning": 50, "critical": 75, "schedule": "@every 10s"},
            {"warning": 5, "critical": 7, "schedule": "@every 3s"},
            subscribed=True,
        ),
        DemoMonitor(
            "Age of the newest backup",
            "Unknown before the first backup.",
            "file",
            {"pattern": f"{settings.BACKUP_DIR}/bookshop-*.sqlite3", "measure": "age_seconds"},
            "Check the job “Back up the database”. The copies are in the directory backups.",
            {"warning": 300, "critical": 900, "schedule": "@every 20s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Failed runs of the last hour",
            "The failed runs of all jobs.",
            "records",
            {
                "model": "chroniker.Run",
                "measure": "count",
                "filters": "status__in = failed, timed_out, lost\nended_at__gte = now-1h",
            },
            "Find the failed runs in the list of runs. Each shows its error.",
            {"warning": 3, "critical": 60, "unit": "runs", "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Front page",
            "Response time of the front page, which must contain the name of the shop.",
            "http",
            {"url": f"{settings.SITE_URL}/", "expected_text": "The bookshop"},
            "Open the page in a browser.",
            {"warning": 1, "critical": 5, "consecutive": 2, "schedule": "@every 30s"},
            QUICK_SCHEDULE,
            subscribed=True,
        ),
        DemoMonitor(
            TILL,
            "A program without Django that pings this monitor: see till.py.",
            "heartbeat",
            {"period_seconds": 20, "grace_seconds": 20},
            "Check that the till is switched on and connected.",
            {"schedule": "@every 15s"},
            QUICK_SCHEDULE,
            subscribed=True,
        ),
    ]


def create_monitors(subscriber: AbstractUser, *, quick: bool) -> int:
    """Create the monitors that are missing; return how many.

    Changes made in the admin are kept, except for URLs of this site, which may have changed.
    """
    new = 0
    for plan in demo_monitors():
        runbook_url = f"{settings.SITE_URL}/#{plan.anchor}"
        monitor = Monitor.objects.filter(name=plan.name).select_related("probe").first()
        if monitor is not None:
            Monitor.objects.filter(pk=monitor.pk).update(runbook_url=runbook_url)
            if monitor.probe.kind == plan.kind == "http":
                params = {**monitor.probe.params, "url": plan.params["url"]}
                Probe.objects.filter(pk=monitor.pk).update(params=params)
            continue
        fields = {**plan.fields, **(plan.quick if quick else {})}
        with transaction.atomic():
            monitor = Monitor.objects.define(
                name=plan.name,
                kind=plan.kind,
                params=plan.params,
                description=plan.description,
                runbook_url=runbook_url,
                **fields,
            )
            if plan.subscribed:
                monitor.subscribers.add(subscriber)
        new += 1
    return new


def ping_url() -> str:
    """Return the URL that the till pings."""
    probe = Probe.objects.get(job__name=TILL)
    return f"{settings.SITE_URL}/ping/{probe.ping_uuid}/"
