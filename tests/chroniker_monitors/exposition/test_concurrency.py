"""Many concurrent scrapes of several processes while jobs end."""

from __future__ import annotations

import gzip
import http.client
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created
from django.test import Client

from chroniker.enums import RunStatus
from chroniker.models import Job, JobState
from tests.factories import make_finished_run, make_job
from tests.support.metrics_page import OPENMETRICS, MetricsPage, Samples
from tests.support.metrics_servers import TOKEN

SCRAPERS = 20
SECONDS = 4
A_SECOND = 10


class ScrapingThread(threading.Thread):
    """Scrapes repeatedly over new connections, so that both workers answer."""

    def __init__(self, site: str, stop: threading.Event, openmetrics: bool) -> None:
        super().__init__()
        self.site = site
        self.stop = stop
        self.accept = OPENMETRICS if openmetrics else "text/plain"
        self.pages: list[str] = []
        self.errors: list[Any] = []

    def run(self) -> None:
        while not self.stop.is_set() or len(self.pages) + len(self.errors) < 2:
            try:
                self.pages.append(self.scrape())
            except Exception as error:
                self.errors.append(error)
            self.stop.wait(0.5)

    def scrape(self) -> str:
        connection = http.client.HTTPConnection(self.site, timeout=20)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Accept": self.accept}
            connection.request("GET", "/metrics", headers=headers | {"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            assert answer.status == 200
            return gzip.decompress(answer.read()).decode()
        finally:
            connection.close()


@pytest.mark.slow
def test_twenty_concurrent_scrapes_while_ten_jobs_per_second_end(busy_site: str) -> None:
    jobs = [make_job(name=f"job {n}") for n in range(12)]
    stop = threading.Event()
    scrapers = [ScrapingThread(busy_site, stop, openmetrics=bool(n % 2)) for n in range(SCRAPERS)]
    for scraper in scrapers:
        scraper.start()
    ended = finish_runs(jobs, SECONDS * A_SECOND)
    stop.set()
    for scraper in scrapers:
        scraper.join()
    assert [scraper.errors for scraper in scrapers] == [[]] * SCRAPERS
    assert min(len(scraper.pages) for scraper in scrapers) >= 2
    for scraper in scrapers:
        highest: Samples = {}
        for text in scraper.pages:
            page = MetricsPage(text.removesuffix("# EOF\n"))  # no line is torn or duplicated
            check(page, len(jobs))
            for key, value in page.samples.items():
                if key[0].startswith("chroniker_job_") and key[0].endswith(
                    ("_total", "_bucket", "_count", "_sum")
                ):
                    assert value >= highest.get(key, 0.0), key
                    highest[key] = value
    last = MetricsPage(scrapers[0].scrape())
    assert sum(last.samples_named("chroniker_job_runs_total").values()) == ended
    assert sum(JobState.objects.values_list("runs_total", flat=True)) == ended


def finish_runs(jobs: list[Job], number: int) -> int:
    """End this many runs, ten per second."""
    began = time.monotonic()
    for n in range(number):
        status = RunStatus.FAILED if n % 5 == 0 else RunStatus.SUCCEEDED
        make_finished_run(jobs[n % len(jobs)], datetime.now(UTC), status, n % 7 + 0.5)
        time.sleep(max(0.0, began + (n + 1) / A_SECOND - time.monotonic()))
    connection.close()
    return number


def check(page: MetricsPage, jobs: int) -> None:
    """Each family is complete and consistent: a row is read at once."""
    assert page("chroniker_collector_up") == 1
    runs = page.samples_named("chroniker_job_runs_total")
    counts = page.samples_named("chroniker_job_duration_seconds_count")
    assert len(runs) == len(counts) == jobs
    assert runs == counts  # each of these runs took a known time
    assert len(page.samples_named("chroniker_job_duration_seconds_bucket")) == 13 * jobs
    lines = [line for line in page.text.splitlines() if line.startswith("# TYPE")]
    assert len(lines) == len(set(lines))


def test_twenty_concurrent_scrapes_share_few_reads(transactional_db: None) -> None:
    """A read needs two queries; scrapes that wait share one read."""
    for n in range(20):
        make_job(name=f"job {n}")
    readings: list[list[str]] = []

    def watch(connection: Any, **kwargs: Any) -> None:
        queries: list[str] = []
        readings.append(queries)

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            queries.append(sql)
            return execute(sql, *rest)

        connection.execute_wrappers.append(note)

    together = threading.Barrier(SCRAPERS)
    pages: list[str] = []

    def scrape() -> None:
        client = Client()
        together.wait()
        pages.append(client.get("/metrics").content.decode())

    threads = [threading.Thread(target=scrape) for _ in range(SCRAPERS)]
    connection_created.connect(watch)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        connection_created.disconnect(watch)
    assert len(pages) == SCRAPERS
    for text in pages:
        assert len(MetricsPage(text).samples_named("chroniker_job_enabled")) == 20
    asked = [[sql for sql in queries if sql.startswith("SELECT")] for queries in readings]
    assert 1 <= len(readings) <= SCRAPERS
    assert {len(queries) for queries in asked} == {7}  # the same for any number of jobs
