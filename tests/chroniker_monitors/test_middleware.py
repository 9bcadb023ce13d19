"""Scrapes and pings by a pod's address, and over HTTP where the site redirects to HTTPS."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.checks import run_checks
from django.test import AsyncClient, Client

from chroniker_monitors.checks import MIDDLEWARE, check_scrapes
from tests.factories import make_heartbeat_monitor

POD = "10.42.0.17:8000"
pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


@pytest.fixture
def strict_site(settings: Any) -> Any:
    """A site that answers to one name only, and only over HTTPS."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = ["shop.example.com"]
    settings.MIDDLEWARE = [MIDDLEWARE, "django.middleware.common.CommonMiddleware",
                           *settings.MIDDLEWARE]  # fmt: skip
    return settings


def test_without_the_middleware_a_scrape_fails(strict_site: Any) -> None:
    strict_site.MIDDLEWARE = strict_site.MIDDLEWARE[1:]
    assert Client().get("/metrics", headers={"host": POD}).status_code == 400
    assert Client().get("/metrics", headers={"host": "shop.example.com"}).status_code == 301


@pytest.mark.parametrize("host", [POD, "shop.example.com", "[fd00::7]:8000", "no_name!"])
def test_scrape_of_an_allowed_client_is_answered(strict_site: Any, host: str) -> None:
    response = Client().get("/metrics", headers={"host": host})
    assert response.status_code == 200
    assert b"chroniker_collector_up 1" in response.content


def test_other_clients_are_refused(strict_site: Any) -> None:
    stranger = Client(REMOTE_ADDR="192.0.2.1")
    assert stranger.get("/metrics", headers={"host": POD}).status_code == 403
    assert Client().post("/metrics", headers={"host": POD}).status_code == 405


def test_ping_is_recorded(strict_site: Any) -> None:
    address = f"/ping/{make_heartbeat_monitor().probe.ping_uuid}/"
    for path in (address, f"{address}start", f"{address}0"):
        response = Client().post(path, b"done", "text/plain", headers={"host": POD})
        assert (response.status_code, response.content) == (200, b"ok")
    unknown = "/ping/00000000-0000-0000-0000-000000000001/"
    assert Client().get(unknown, headers={"host": POD}).status_code == 404


def test_everything_else_is_still_guarded(strict_site: Any) -> None:
    for path in ("/admin/", "/metrics/", "/ping/no-address/", "/metricsx", "/"):
        assert Client().get(path, headers={"host": POD}).status_code == 400
        response = Client().get(path, headers={"host": "shop.example.com"})
        assert response.status_code == 301


def test_site_without_our_urls_is_not_touched(strict_site: Any) -> None:
    strict_site.ROOT_URLCONF = "django.contrib.auth.urls"
    assert Client().get("/metrics", headers={"host": "shop.example.com"}).status_code == 301


async def _scrape_async() -> tuple[int, int]:
    client = AsyncClient()
    return (
        (await client.get("/metrics", headers={"host": POD})).status_code,
        (await client.get("/admin/", headers={"host": POD})).status_code,
    )


@pytest.mark.django_db(transaction=True)
def test_it_works_under_asgi(strict_site: Any) -> None:
    assert async_to_sync(_scrape_async)() == (200, 400)


def test_check_names_the_middleware(strict_site: Any) -> None:
    assert check_scrapes() == []
    strict_site.MIDDLEWARE = strict_site.MIDDLEWARE[1:]
    (message,) = check_scrapes()
    assert message.id == "chroniker_monitors.W010"
    assert MIDDLEWARE in (message.hint or "")
    strict_site.SECURE_REDIRECT_EXEMPT = [r"^metrics$"]
    assert check_scrapes() == []


def test_page_without_django_prometheus_says_so_in_a_check() -> None:
    found = {message.id for message in run_checks(include_deployment_checks=True)}
    assert "chroniker_monitors.I001" in found
    assert "chroniker_monitors.I001" not in {message.id for message in run_checks()}
