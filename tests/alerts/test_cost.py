"""What a site costs the Prometheus that scrapes it and evaluates the rules.

The pages are those of a real database; a static server answers with them, so that only Prometheus
is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.models import Host, Job, JobState
from chroniker_monitors.exposition.page import render_chroniker_page
from tests.alerts.rules import RULES
from tests.support.machine import find_program, free_port
from tests.support.metrics_servers import PrometheusServer
from tests.support.processes import run_server, wait_until

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.slow,
    pytest.mark.prometheus,
    pytest.mark.one_database,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("cost"),
]
JOBS = 2000
MANY_JOBS = int(os.environ.get("CHRONIKER_TEST_JOBS", "5000"))
LIMITS = {"low": 16, "default": 45, "high": 80}
"""Series of a job, on average over a site with some options and some trouble."""
INTERVALS = {"chroniker": 30, "chroniker-durations": 180}
"""Seconds; the first is the evaluation_interval of the example."""


def populate(number: int) -> None:
    """Jobs with a history. A tenth uses all options, a tenth is running, and 2 % are failing."""
    now = utc_now()
    options = {
        "expected_seconds": 600, "timeout_seconds": 3600, "minimum_seconds": 1, "max_retries": 2,
        "success_objective": 99.0, "finish_by": "90m", "start_deadline_seconds": 600,
    }  # fmt: skip
    jobs = Job.objects.bulk_create(
        [
            Job(name=f"nightly export of customer {n}", command="export", schedule="@every 1h",
                team=f"team {n % 7}", **(options if n % 10 == 0 else {}))
            for n in range(number)
        ],
        batch_size=500,
    )  # fmt: skip
    running = {
        "lease_token": "t", "lease_expires_at": now, "last_started_at": now - timedelta(minutes=1),
        "parts_total": 100, "parts_done": 7, "progress_at": now,
    }  # fmt: skip
    failing = {
        "last_status": "failed", "consecutive_failures": 3, "failures_error": 3,
        "last_failure_at": now, "blocked_reason": "dependency",
    }  # fmt: skip
    buckets = {"0.5": 100, "5": 800, "60": 90, "300": 9}
    usual = {
        "next_slot_at": now + timedelta(hours=1), "next_run_at": now + timedelta(hours=1),
        "last_status": "succeeded", "last_started_at": now, "last_ended_at": now,
        "last_success_at": now, "last_duration_seconds": 4.5, "last_max_rss_bytes": 10**8,
        "runs_total": 1000, "cpu_seconds_total": 900.5, "duration_seconds_sum": 5000.5,
        "duration_count": 1000, "duration_buckets": buckets, "start_lag_seconds_sum": 90.5,
        "start_lag_count": 1000, "start_lag_buckets": buckets,
    }  # fmt: skip
    JobState.objects.bulk_create(
        [
            JobState(
                job=job, **usual | (running if n % 10 == 1 else failing if n % 50 == 2 else {})
            )
            for n, job in enumerate(jobs)
        ],
        batch_size=200,
    )
    Host.objects.create(name="web1", last_tick_at=now, tick_seconds=0.2)


class _Page(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.page)))
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class PageServer(ThreadingHTTPServer):
    """Answers each request with one page."""

    daemon_threads = True

    def __init__(self, page: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.page = page


@contextlib.contextmanager
def scraping(page: bytes, folder: Path, rules: str = "") -> Iterator[PrometheusServer]:
    """A Prometheus that scrapes this page, and evaluates these rules, every ten seconds."""
    folder.mkdir()
    (folder / "rules.yml").write_text(rules)
    with PageServer(page) as pages:
        thread = threading.Thread(target=pages.serve_forever)
        thread.start()
        config: dict[str, Any] = {
            "global": {"scrape_interval": "10s", "evaluation_interval": "10s"},
            "rule_files": [str(folder / "rules.yml")] if rules else [],
            "scrape_configs": [
                {"job_name": "chroniker", "static_configs": [
                    {"targets": [f"127.0.0.1:{pages.server_address[1]}"]}
                ]}
            ],
        }  # fmt: skip
        (folder / "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        command = [
            str(find_program("prometheus")),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={address}",
        ]
        try:
            with run_server(command, folder / "prometheus.log"):
                yield PrometheusServer(f"http://{address}")
        finally:
            pages.shutdown()
            thread.join()


def one(prometheus: PrometheusServer, name: str) -> float:
    [sample] = wait_until(lambda: prometheus.query(name), timeout=60, interval=0.3)
    return float(sample["value"][1])


def own_metric(prometheus: PrometheusServer, name: str) -> float:
    """A metric of Prometheus itself."""
    with urllib.request.urlopen(f"{prometheus.url}/metrics", timeout=10) as answer:
        found = re.search(rf"(?m)^{name} (\S+)$", answer.read().decode())
    assert found
    return float(found[1])


def test_series_of_each_detail(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    populate(JOBS)
    counts = {}
    for detail, limit in LIMITS.items():
        settings.CHRONIKER_METRICS_DETAIL = detail
        page, up = render_chroniker_page()
        assert up
        with scraping(page, tmp_path / detail) as prometheus:
            series = one(prometheus, "scrape_samples_scraped")
            seconds = one(prometheus, "scrape_duration_seconds")
            wait_until(lambda: own_metric(prometheus, "prometheus_tsdb_head_series") >= series)  # noqa: B023
            memory = own_metric(prometheus, "process_resident_memory_bytes")
        counts[detail] = series
        assert series == sum(not line.startswith(b"#") for line in page.splitlines())
        assert series / JOBS <= limit
        with capsys.disabled():
            print(
                f"\n{JOBS} jobs, {detail}: {series / JOBS:.1f} series a job, page "
                f"{len(page) / 1e6:.1f} MB, scrape {seconds:.2f} s, "
                f"Prometheus {memory / 1e6:.0f} MB"
            )
    assert counts["low"] < counts["default"] / 2.5 < counts["high"] / 3


@pytest.mark.scale
def test_rules_take_less_than_a_tenth_of_their_interval(
    settings: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fastest of some evaluations, because the machine has other work to do."""
    settings.CHRONIKER_METRICS_MAX_JOBS = MANY_JOBS
    populate(MANY_JOBS)
    page, up = render_chroniker_page()
    assert up
    often = RULES.read_text().replace("interval: 3m", "interval: 10s")
    fastest: dict[str, float] = {}

    def are_fast_enough() -> bool:
        """Note the last evaluations."""
        with urllib.request.urlopen(f"{prometheus.url}/api/v1/rules", timeout=30) as answer:
            groups = json.load(answer)["data"]["groups"]
        for group in groups:
            assert [r["lastError"] for r in group["rules"] if r.get("lastError")] == []
            before = fastest.get(group["name"], inf)
            fastest[group["name"]] = min(before, group["evaluationTime"] or inf)
        return all(fastest[name] < seconds / 10 for name, seconds in INTERVALS.items())

    with scraping(page, tmp_path / "rules", often) as prometheus:
        failing = "count(job_name_host:chroniker_job_failing:max)"
        assert one(prometheus, failing) == MANY_JOBS / 50
        usual = "count(job_name_host:chroniker_job_duration_seconds:mean_1w)"
        assert one(prometheus, usual) == MANY_JOBS
        time.sleep(10)  # all rules have data: what is noted before was an empty evaluation
        try:
            wait_until(are_fast_enough, timeout=150, interval=1, message="less than a tenth")
        finally:
            with capsys.disabled():
                for name, interval in INTERVALS.items():
                    print(f"\n{MANY_JOBS} jobs: {name} {fastest.get(name)} s of {interval} s")
