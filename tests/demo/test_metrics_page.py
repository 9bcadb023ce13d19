"""The metrics page of the demo over HTTP."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from demo.site import DemoSite
from tests.support.demo_site import run_demo_site
from tests.support.machine import run_promtool
from tests.support.metrics_page import OPENMETRICS, MetricsPage

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoSite]:
    """The bookshop behind two gunicorn workers."""
    with run_demo_site(tmp_path / "demo") as site:
        site.seed()
        site.start_web()
        yield site


def get(site: DemoSite, accept: str) -> str:
    request = urllib.request.Request(f"{site.url}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        page: str = answer.read().decode()
    return page


def test_promtool_and_strict_parser_accept_the_page(demo: DemoSite) -> None:
    text = get(demo, "text/plain")
    done = run_promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert MetricsPage(text)("chroniker_collector_up") == 1
    families = list(text_string_to_metric_families(get(demo, OPENMETRICS)))
    assert sum(family.name.startswith("chroniker_") for family in families) > 30
