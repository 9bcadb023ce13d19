"""The page over HTTP: who may have it, in which form, and what else is on it."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from prometheus_client import REGISTRY, CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pytest import LogCaptureFixture

from chroniker_monitors.collector.prometheus import ChronikerCollector
from chroniker_monitors.exposition import page
from tests.factories import make_job, make_job_state
from tests.support.metrics_page import OPENMETRICS, MetricsPage, scrape

pytestmark = pytest.mark.django_db
URL = "/metrics"
TOKEN = "a-token-of-some-length"


def test_url() -> None:
    assert reverse("chroniker_monitors:metrics") == URL


# --- access ---------------------------------------------------------------------------------

LOCAL, NEAR, FAR = "127.0.0.1", "10.1.2.3", "203.0.113.9"
ACCESS: list[tuple[str, dict[str, Any], str, dict[str, str], int]] = [
    ("loopback", {}, LOCAL, {}, 200),
    ("all of loopback", {}, "127.8.9.10", {}, 200),
    ("loopback, IPv6", {}, "::1", {}, 200),
    ("loopback, IPv4 in IPv6", {}, "::ffff:127.0.0.1", {}, 200),
    ("elsewhere", {}, FAR, {}, 403),
    ("elsewhere, IPv4 in IPv6", {}, "::ffff:203.0.113.9", {}, 403),
    ("a Unix socket", {}, "", {}, 403),
    ("nonsense", {}, "localhost", {}, 403),
    ("forwarded for loopback", {}, FAR, {"X-Forwarded-For": "127.0.0.1"}, 403),
    ("forwarded header", {}, FAR, {"Forwarded": "for=127.0.0.1"}, 403),
    ("a proxy on loopback", {}, LOCAL, {"X-Forwarded-For": FAR}, 403),
    ("a proxy on loopback, lying", {}, LOCAL, {"X-Forwarded-For": "127.0.0.1"}, 403),
    ("a proxy on loopback that tells the scheme", {}, LOCAL, {"X-Forwarded-Proto": "https"}, 403),
    ("a proxy on loopback that tells itself", {}, LOCAL, {"Via": "1.1 varnish"}, 403),
    ("token that nobody asked for", {}, FAR, {"Authorization": f"Bearer {TOKEN}"}, 403),
    ("allowed network", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}, NEAR, {}, 200),
    ("allowed, IPv4 in IPv6", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}, "::ffff:10.1.2.3", {}, 200),
    ("allowed, host bits", {"ALLOWED_NETWORKS": ("10.1.2.3/16",)}, NEAR, {}, 200),
    ("allowed, one address", {"ALLOWED_NETWORKS": {"203.0.113.9"}}, FAR, {}, 200),
    ("allowed, IPv6", {"ALLOWED_NETWORKS": ["2001:db8::/32"]}, "2001:db8::5", {}, 200),
    ("not allowed, IPv6", {"ALLOWED_NETWORKS": ["0.0.0.0/0"]}, "2001:db8::5", {}, 403),
    ("another network", {"ALLOWED_NETWORKS": ["10.2.0.0/16"]}, NEAR, {}, 403),
    ("loopback beside networks", {"ALLOWED_NETWORKS": ["10.2.0.0/16"]}, LOCAL, {}, 200),
    ("a wrong network allows nobody", {"ALLOWED_NETWORKS": ["all"]}, FAR, {}, 403),
    (
        "a proxy that is allowed",
        {"ALLOWED_NETWORKS": ["127.0.0.0/8"]},
        LOCAL,
        {"X-Forwarded-For": FAR},
        200,
    ),
    ("token", {"TOKEN": TOKEN}, FAR, {"Authorization": f"Bearer {TOKEN}"}, 200),
    ("token, lower case", {"TOKEN": TOKEN}, FAR, {"Authorization": f"bearer  {TOKEN} "}, 200),
    ("token asked for, none given", {"TOKEN": TOKEN}, LOCAL, {}, 403),
    ("token asked for, networks", {"TOKEN": TOKEN, "ALLOWED_NETWORKS": ["::/0"]}, "::1", {}, 403),
    ("a wrong token", {"TOKEN": TOKEN}, LOCAL, {"Authorization": f"Bearer {TOKEN}x"}, 403),
    ("half a token", {"TOKEN": TOKEN}, LOCAL, {"Authorization": f"Bearer {TOKEN[:5]}"}, 403),
    ("no Bearer", {"TOKEN": TOKEN}, LOCAL, {"Authorization": TOKEN}, 403),
    ("Basic", {"TOKEN": TOKEN}, LOCAL, {"Authorization": f"Basic {TOKEN}"}, 403),
    ("strange letters", {"TOKEN": TOKEN}, LOCAL, {"Authorization": "Bearer 🦄"}, 403),
    ("empty token is none", {"TOKEN": ""}, FAR, {"Authorization": "Bearer "}, 403),
]


@pytest.mark.parametrize(
    ("options", "address", "headers", "status"),
    [pytest.param(*case[1:], id=case[0]) for case in ACCESS],
)
def test_access(
    settings: Any, options: dict[str, Any], address: str, headers: dict[str, str], status: int
) -> None:
    for name, value in options.items():
        setattr(settings, f"CHRONIKER_METRICS_{name}", value)
    for method in ("get", "head"):
        with CaptureQueriesContext(connection) as queries:
            response = getattr(Client(), method)(URL, REMOTE_ADDR=address, headers=headers)
        assert response.status_code == status
        assert response["Cache-Control"] == "no-store"
        if status == 403:
            assert len(queries) == 0
            assert b"chroniker_" not in response.content


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_only_get_and_head(method: str) -> None:
    client = Client(enforce_csrf_checks=True)
    response = getattr(client, method)(URL)
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


def test_login_is_not_required(settings: Any) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert "chroniker_collector_up 1.0" in scrape()
    assert Client().get(URL, REMOTE_ADDR=FAR).status_code == 403


# --- form -----------------------------------------------------------------------------------

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT_TYPE),
        ("*/*", TEXT_TYPE),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT_TYPE),
        ("image/png", TEXT_TYPE),
        (PROMETHEUS_2, OPENMETRICS_TYPE),
        (PROMETHEUS_3, OPENMETRICS_TYPE),
        ("application/openmetrics-text", OPENMETRICS_TYPE),
        ('Application/OpenMetrics-Text; version="1.0.0"', OPENMETRICS_TYPE),
        ("text/plain, application/openmetrics-text", OPENMETRICS_TYPE),
        ("application/openmetrics-text;q=0.1, text/plain;q=0.9", TEXT_TYPE),
        ("application/openmetrics-text;q=0", TEXT_TYPE),
        ("application/openmetrics-text;version=0.0.1", TEXT_TYPE),
        ("application/openmetrics-text;version=2.0.0", TEXT_TYPE),
        ("application/openmetrics-text;q=nonsense", TEXT_TYPE),
        (";;,,;q", TEXT_TYPE),
    ],
)
def test_format_is_what_the_scraper_likes_best(accept: str, expected: str) -> None:
    response = Client().get(URL, headers={"accept": accept})
    assert response["Content-Type"] == expected
    assert response.content.endswith(b"# EOF\n") == (expected == OPENMETRICS_TYPE)
    assert response.content.count(b"# EOF") == (expected == OPENMETRICS_TYPE)
    assert {part.strip() for part in response["Vary"].split(",")} >= {"Accept", "Accept-Encoding"}


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br", False),
        ("*", True),
        ("gzip;q=0, *", False),
        ("identity", False),
    ],
)
def test_gzip_where_it_is_accepted(accepted: str, packed: bool) -> None:
    make_job(name="a")
    response = Client().get(URL, headers={"accept-encoding": accepted})
    assert response.get("Content-Encoding") == ("gzip" if packed else None)
    body = gzip.decompress(response.content) if packed else response.content
    assert b'chroniker_job_enabled{job_name="a"} 1.0\n' in body
    assert response["Content-Length"] == str(len(response.content))


def test_head_has_the_headers_of_get() -> None:
    head = Client().head(URL)
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Type"] == TEXT_TYPE
    assert int(head["Content-Length"]) > 1000


def test_strict_parser_takes_the_page(settings: Any) -> None:
    job = make_job(name='a"b\n} evil 1', hostname="*")
    make_job_state(job, host="w\\eb", runs_total=10**12, duration_buckets={"1": 10**7})
    families = {f.name: f for f in text_string_to_metric_families(scrape(accept=OPENMETRICS))}
    assert families["chroniker_job_duration_seconds"].unit == "seconds"
    [runs] = families["chroniker_job_runs"].samples
    assert runs.labels == {"job_name": 'a"b\n} evil 1', "host": "w\\eb"}
    assert runs.value == 10**12


# --- what else is on the page ---------------------------------------------------------------


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


def test_value_that_is_no_number_is_left_out(own_registry: CollectorRegistry) -> None:
    broken = Collector()
    broken.collect = lambda: iter([GaugeMetricFamily("bookshop_x", "X.", "many")])  # type: ignore[method-assign, arg-type]
    own_registry.register(broken)
    text = scrape()
    assert "bookshop_x" not in text
    assert "chroniker_collector_up 1.0" in text


def test_no_family_is_there_twice(
    default_registry: CollectorRegistry, own_registry: CollectorRegistry
) -> None:
    default_registry.register(ChronikerCollector())
    own_registry.register(Collector("chroniker_collector_up", "bookshop_shelves"))
    default_registry.register(Collector("bookshop_shelves"))
    make_job(name="a")
    lines = [line for line in scrape().splitlines() if line.startswith("# TYPE")]
    assert len(lines) == len(set(lines))
