"""One page for several processes: prometheus_client's files and our own registry."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.factories import make_job, make_job_state
from tests.support.machine import REPO, free_port
from tests.support.metrics_page import MetricsPage
from tests.support.metrics_servers import TOKEN, fetch, run_gunicorn
from tests.support.silent_server import run_silent_server

WORKER = """
import sys, django
django.setup()
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from chroniker_monitors.exposition.page import registry

class Shelves:
    def describe(self): return []
    def collect(self): yield GaugeMetricFamily("bookshop_shelves", "Shelves.", 7)

class Lost(Shelves):
    def collect(self): yield GaugeMetricFamily("bookshop_lost", "On the default registry.", 7)

registry.register(Shelves())
REGISTRY.register(Lost())
Counter("bookshop_orders", "Orders.").inc(int(sys.argv[1]))
"""
SCRAPER = """
from django.test import Client
response = Client().get("/metrics", headers={"accept": sys.argv[2]})
assert response.status_code == 200, response
sys.stdout.buffer.write(response.content)
"""


@pytest.mark.slow
def test_all_processes_are_on_the_page(site_env: dict[str, str], tmp_path: Path) -> None:
    make_job_state(make_job(name="a"), runs_total=3)
    folder = tmp_path / "prometheus"
    folder.mkdir()
    env = site_env | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}

    def run(code: str, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], env=env, cwd=REPO, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(WORKER, "2")
    text = run(WORKER + SCRAPER, "3", "text/plain")
    page = MetricsPage(text)
    assert page("bookshop_orders_total") == 5
    assert page("bookshop_shelves") == 7
    assert page("bookshop_lost") is None
    assert page("chroniker_job_runs_total", job_name="a") == 3
    assert page("chroniker_collector_up") == 1
    openmetrics = run(WORKER + SCRAPER, "1", "application/openmetrics-text")
    assert "\nbookshop_orders_total 6.0\n" in openmetrics
    assert openmetrics.endswith("# EOF\n")


def test_missing_multiprocess_directory_affects_only_its_metrics(
    site_env: dict[str, str], tmp_path: Path
) -> None:
    env = site_env | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "missing")}
    code = (
        "import django, sys; django.setup();"
        "from chroniker_monitors.exposition.page import page;"
        "from chroniker_monitors.exposition.formats import TEXT;"
        "sys.stdout.buffer.write(page(TEXT))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=REPO, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"chroniker_collector_up 1.0" in done.stdout
    assert b"is not a directory" in done.stderr


@pytest.mark.slow
@pytest.mark.one_database
@pytest.mark.parametrize("refused", [True, False], ids=["stopped", "frozen"])
def test_page_without_postgres_keeps_other_metrics(
    site_env: dict[str, str], tmp_path: Path, refused: bool
) -> None:
    """The port is closed, or accepts connections and never answers."""
    with run_silent_server() as silent:
        port = free_port() if refused else silent
        down = {"CHRONIKER_TEST_DB": "postgres", "PGHOST": "127.0.0.1", "PGPORT": str(port)}
        with run_gunicorn(site_env | down, tmp_path, "--threads=4") as address:
            assert fetch(address).status == 403
            seconds = []
            for _ in range(3):
                began = time.monotonic()
                response = fetch(address, Authorization=f"Bearer {TOKEN}")
                seconds.append(time.monotonic() - began)
                assert response.status == 200
                page = MetricsPage(response.text)
                assert page("chroniker_collector_up") == 0
                assert page.samples_named("django_http_requests_before_middlewares_total")
                assert "chroniker_job" not in response.text
            assert min(seconds) < 3, seconds  # a busy machine may be late
