"""The metrics page: all registries, each family once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pytest import LogCaptureFixture

from chroniker_monitors.collector.prometheus import ChronikerCollector
from chroniker_monitors.exposition import page
from tests.factories import make_job, make_job_state
from tests.support.metrics_page import OPENMETRICS, MetricsPage, scrape

pytestmark = pytest.mark.django_db


def test_strict_parser_accepts_the_page(settings: Any) -> None:
    job = make_job(name='a"b\n} evil 1', hostname="*")
    make_job_state(job, host="w\\eb", runs_total=10**12, duration_buckets={"1": 10**7})
    families = {f.name: f for f in text_string_to_metric_families(scrape(accept=OPENMETRICS))}
    assert families["chroniker_job_duration_seconds"].unit == "seconds"
    [runs] = families["chroniker_job_runs"].samples
    assert runs.labels == {"job_name": 'a"b\n} evil 1', "host": "w\\eb"}
    assert runs.value == 10**12


class Collector:
    def __init__(self, *names: str, error: Exception | None = None) -> None:
        self.names = names
        self.error = error

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        for name in self.names:
            yield GaugeMetricFamily(name, "A test's.", 1)
        if self.error:
            raise self.error


@pytest.fixture
def default_registry() -> Iterator[CollectorRegistry]:
    before = set(REGISTRY._collector_to_names)
    yield REGISTRY
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


@pytest.fixture
def own_registry() -> Iterator[CollectorRegistry]:
    yield page.registry
    for collector in list(page.registry._collector_to_names):
        page.registry.unregister(collector)


def test_default_registry_is_on_the_page(default_registry: CollectorRegistry) -> None:
    Counter("bookshop_orders", "Orders.", registry=default_registry).inc(3)
    for headers in ({}, {"accept": OPENMETRICS}):
        text = scrape(**headers)
        assert "\nbookshop_orders_total 3.0\n" in text
        assert "\npython_info{" in text


def test_own_registry_is_on_the_page(own_registry: CollectorRegistry) -> None:
    own_registry.register(Collector("bookshop_shelves"))
    assert MetricsPage()("bookshop_shelves") == 1


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyError()])
def test_collector_that_raises_is_left_out(
    default_registry: CollectorRegistry,
    own_registry: CollectorRegistry,
    caplog: LogCaptureFixture,
    error: Exception,
) -> None:
    default_registry.register(Collector("bookshop_half", error=error))
    own_registry.register(Collector("bookshop_other_half", error=error))
    own_registry.register(Collector("bookshop_shelves"))
    make_job(name="a")
    with caplog.at_level(logging.ERROR):
        found = MetricsPage()
    assert found("bookshop_shelves") == 1
    assert found("chroniker_job_enabled", job_name="a") == 1
    assert "python_info" in found.text
    assert "bookshop_half" not in found.text
    assert "bookshop_other_half" not in found.text
    assert caplog.text.count("A collector failed") == 2


def test_value_that_is_not_a_number_is_left_out(own_registry: CollectorRegistry) -> None:
    broken = Collector()
    broken.collect = lambda: iter([GaugeMetricFamily("bookshop_x", "X.", "many")])  # type: ignore[method-assign, arg-type]
    own_registry.register(broken)
    text = scrape()
    assert "bookshop_x" not in text
    assert "chroniker_collector_up 1.0" in text


def test_each_family_is_exported_once(
    default_registry: CollectorRegistry, own_registry: CollectorRegistry
) -> None:
    default_registry.register(ChronikerCollector())
    own_registry.register(Collector("chroniker_collector_up", "bookshop_shelves"))
    default_registry.register(Collector("bookshop_shelves"))
    make_job(name="a")
    lines = [line for line in scrape().splitlines() if line.startswith("# TYPE")]
    assert len(lines) == len(set(lines))
