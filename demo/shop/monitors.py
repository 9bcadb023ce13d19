"""The monitors of the bookshop, as somebody would define them in the admin."""

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
    """One monitor; ``quick`` is what replaces fields of it where nobody has minutes to watch."""

    name: str
    description: str
    kind: str
    params: Mapping[str, Any]
    runbook: str
    fields: Mapping[str, Any]
    """Of job and probe: schedule, thresholds and the like."""
    quick: Mapping[str, Any] = field(default_factory=dict)
    subscribed: bool = False

    @property
    def anchor(self) -> str:
        """Where its runbook is on the shop's page."""
        return slugify(self.name)


QUICK_SCHEDULE = {"schedule": "@every 8s"}


def demo_monitors() -> list[DemoMonitor]:
    """All of them. Their addresses are those of the settings."""
    return [
        DemoMonitor(
            "Disk of the site",
            "How full the file system is on which the shop keeps everything; each host has one.",
            "disk",
            {"path": str(settings.STATE_DIR), "measure": "percent_used"},
            "Delete old backups, or give it a larger disk.",
            {"warning": 90, "critical": 97, "hostname": "*", "schedule": "* * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Memory of the host",
            "Three bad samples in a row make it worse: a peak is no news.",
            "memory",
            {"measure": "percent_used"},
            "The list of processes says who has it.",
            {"warning": 90, "critical": 97, "consecutive": 3, "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Database latency",
            "How long it takes to connect and to be answered.",
            "database",
            {"alias": "default", "measure": "latency"},
            "Does somebody hold the lock for long? Look at the jobs that run.",
            {"warning": 0.5, "critical": 2, "consecutive": 3, "schedule": "@every 20s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Unapplied migrations",
            "A release whose migrations were forgotten.",
            "migrations",
            {"alias": "default"},
            "Run manage.py migrate.",
            {"warning": 0, "schedule": "*/2 * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Books about to run out",
            "Counts rows of the shop's own model.",
            "records",
            {"model": "shop.Book", "measure": "count", "filters": "stock__lt = 5"},
            "Order what “Check the stock” lists.",
            {"warning": 50, "critical": 200, "unit": "books", "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Books that will not last a week",
            "What the command of “Check the stock” reports; nothing before the first import.",
            "command",
            {"command": "check_stock", "mode": "report"},
            "Order what “Check the stock” lists, and find out who forgot to.",
            {"warning": 50, "critical": 150, "unit": "books", "schedule": "* * * * *"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Last announcement of the publisher",
            "Its age. Where the feed fails, it grows: first a warning, then critical, then well.",
            "records",
            {
                "model": "shop.FeedItem",
                "measure": "newest_seconds",
                "field": "fetched_at",
                "when_empty": 0,
            },
            "Look at “Fetch the publisher's feed”.",
            {"warning": 50, "critical": 75, "schedule": "@every 10s"},
            {"warning": 5, "critical": 7, "schedule": "@every 3s"},
            subscribed=True,
        ),
        DemoMonitor(
            "Age of the newest backup",
            "Unknown until there is one.",
            "file",
            {"pattern": f"{settings.BACKUP_DIR}/bookshop-*.sqlite3", "measure": "age_seconds"},
            "Look at “Back up the database”. Copies lie in the folder backups.",
            {"warning": 300, "critical": 900, "schedule": "@every 20s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Failed runs of the last hour",
            "Of all jobs together.",
            "records",
            {
                "model": "chroniker.Run",
                "measure": "count",
                "filters": "status__in = failed, timed_out, lost\nended_at__gte = now-1h",
            },
            "The list of runs tells which, and each of them why.",
            {"warning": 3, "critical": 60, "unit": "runs", "schedule": "@every 30s"},
            QUICK_SCHEDULE,
        ),
        DemoMonitor(
            "Front page",
            "Seconds until the shop's own page is there, which has to be the shop's.",
            "http",
            {"url": f"{settings.SITE_URL}/", "expected_text": "The bookshop"},
            "Can a browser open it?",
            {"warning": 1, "critical": 5, "consecutive": 2, "schedule": "@every 30s"},
            QUICK_SCHEDULE,
            subscribed=True,
        ),
        DemoMonitor(
            TILL,
            "A program outside Django, which pings its heartbeat: see till.py.",
            "heartbeat",
            {"period_seconds": 20, "grace_seconds": 20},
            "Is somebody at the till? Is it plugged in?",
            {"schedule": "@every 15s"},
            QUICK_SCHEDULE,
            subscribed=True,
        ),
    ]


def create_monitors(subscriber: AbstractUser, *, quick: bool) -> int:
    """Define those that are missing; how many that were.

    What somebody changed in the admin stays, but for addresses of this site, which may be others.
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
    """What the till fetches."""
    probe = Probe.objects.get(job__name=TILL)
    return f"{settings.SITE_URL}/ping/{probe.ping_uuid}/"
