"""The demo, built from nothing and run until every job and monitor has done its work."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connections
from django.db.models import QuerySet
from pytest_django import DjangoDbBlocker

from chroniker.models import Job, Notification, Run
from chroniker_monitors.models import Monitor, Sample
from demo.site import DemoSite
from tests.demo.running.metrics import DemoMetrics
from tests.demo.running.names import BACKUP, FEED, REINDEX, REPORT
from tests.support.demo_site import run_demo_site

WAIT_SECONDS = 60
TICK_SECONDS = 1
TILL_SECONDS = 3


@pytest.fixture(scope="session")
def progress() -> list[float]:
    """The progress of the slow job's first run, as scraped while it ran."""
    return []


@pytest.fixture(scope="session")
def database(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """The demo's own database: these tests read what the scheduler wrote."""
    with django_db_blocker.unblock():
        yield
        connections.close_all()


@pytest.fixture(scope="session", autouse=True)
def site(database: None, progress: list[float]) -> Iterator[DemoSite]:
    """The site after its scheduler has stopped; the web server still answers."""
    port = urlsplit(os.environ["DEMO_URL"]).port
    assert port is not None
    with run_demo_site(Path(os.environ["DEMO_DIR"]), port) as site:
        assert site.url == os.environ["DEMO_URL"]
        site.seed("--quick")
        site.start_web()
        site.start_scheduler(TICK_SECONDS)
        site.start_till(TILL_SECONDS)
        wait_for_results(site, progress)
        site.processes.stop("till")
        assert site.processes.stop("cronserver") == 0, (
            "SIGTERM did not end cronserver with exit code 0"
        )
        yield site
    assert not site.processes.running(), "processes of the demo are still running"


@pytest.fixture(scope="session")
def metrics(site: DemoSite) -> DemoMetrics:
    """A scrape after the scheduler has stopped."""
    return DemoMetrics(site)


@pytest.fixture
def directory(site: DemoSite) -> Path:
    """Where the demo keeps its files."""
    return site.directory


def wait_for_results(site: DemoSite, progress: list[float]) -> None:
    """Wait until there is enough to check; record the progress of the slow job's first run."""
    deadline = time.monotonic() + WAIT_SECONDS
    while missing := missing_results():
        site.processes.check()
        assert time.monotonic() < deadline, f"after {WAIT_SECONDS} s: {', '.join(missing)}"
        metrics = DemoMetrics(site)
        running = metrics.value("chroniker_job_running", job_name=REINDEX)
        if running and Run.objects.filter(job__name=REINDEX).count() == 1:
            name = "chroniker_job_progress_ratio"
            progress.append(metrics.value_or_zero(name, job_name=REINDEX))
        time.sleep(1)


def missing_results() -> list[str]:
    """What has yet to happen."""
    succeeded = set(Run.objects.filter(status="succeeded").values_list("job__name", flat=True))
    names = Job.objects.values_list("name", flat=True)
    missing = [f"{name!r} has not succeeded" for name in names if name not in succeeded]
    if Run.objects.filter(job__name=FEED, status="failed").count() < 2:
        missing.append(f"{FEED!r} has not failed twice")
    for monitor in Monitor.objects.exclude(samples__in=Sample.objects.exclude(value=None)):
        missing.append(f"{monitor.name!r} has measured nothing")
    sent = Notification.objects.filter(job__name=FEED, sent_at__isnull=False)
    for event in ("opened", "resolved"):
        if not sent.filter(event=event).exists():
            missing.append(f"no mail says that the incident of {FEED!r} was {event}")
    if not missing and not backups_after_report():
        missing.append("no backup was started after the report")
    return missing


def backups_after_report() -> QuerySet[Run]:
    """Successful backups that started after a successful report."""
    report = Run.objects.filter(job__name=REPORT, status="succeeded").order_by("id").first()
    return Run.objects.filter(
        job__name=BACKUP, status="succeeded", started_at__gt=report and report.ended_at
    )
