"""Prometheus's own word on the page."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import Host
from chroniker_monitors.collector.families import COLLECTOR_FAMILIES, LEVELS
from chroniker_monitors.exposition.server import MetricsServer
from tests.monitors.factories import NOON, make_state, scrape
from tests.support import free_port, make_job, program, wait_until

pytestmark = pytest.mark.prometheus
HOSTILE = 'a"b\n} evil 1 🦄 \\'


def fill() -> None:
    job = make_job(
        name=HOSTILE, hostname="*", expected_seconds=1, timeout_seconds=2, start_deadline_seconds=3
    )
    make_state(job, host="web1", runs_total=2_000_000, last_ended_at=NOON, duration_count=3)
    make_job(name="new")
    Host.objects.create(name="web1", last_tick_at=NOON, tick_seconds=0.25)


@pytest.mark.django_db
def test_promtool_finds_nothing_to_say() -> None:
    fill()
    done = subprocess.run(
        [str(program("promtool")), "check", "metrics"],
        input=scrape(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.fixture
def site(transactional_db: None, settings: Any) -> Iterator[MetricsServer]:
    """A server in this very process; its answers come from threads of their own."""
    import threading

    settings.CHRONIKER_METRICS_TOKEN = "a-token-of-some-length"
    with MetricsServer("127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_prometheus_scrapes_it_and_answers_for_each_name(
    site: MetricsServer, tmp_path: Path, no_leftovers: Any
) -> None:
    fill()
    job = {
        "scrape_interval": "1s",
        "authorization": {"credentials": "a-token-of-some-length"},
        "static_configs": [{"targets": [f"127.0.0.1:{site.server_port}"]}],
    }
    config = tmp_path / "prometheus.yml"
    config.write_text(json.dumps({"scrape_configs": [{"job_name": "chroniker", **job}]}))
    url = f"http://127.0.0.1:{free_port()}"
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(program("prometheus")),
                f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stdout=log,
            stderr=log,
        )
    try:

        def query(expression: str) -> list[Any]:
            asked = urllib.parse.urlencode({"query": expression})
            try:
                with urllib.request.urlopen(f"{url}/api/v1/query?{asked}", timeout=5) as answer:
                    found: list[Any] = json.load(answer)["data"]["result"]
                    return found
            except OSError:
                return []

        wait_until(lambda: query("chroniker_collector_up == 1"), timeout=60, interval=0.3)
        for families in LEVELS.values():
            for family in families:
                suffix = "_bucket" if family.type == "histogram" else ""
                assert query(f"{family.name}{suffix}"), family.name
        [runs] = query('chroniker_job_runs_total{host="web1"}')
        assert runs["metric"]["job_name"] == HOSTILE
        assert runs["value"][1] == "2000000"
        names = {family.name for family in COLLECTOR_FAMILIES}
        assert {s["metric"]["__name__"] for s in query('{__name__=~"chroniker_[cb].*"}')} == names
    finally:
        process.terminate()
        process.wait(20)
