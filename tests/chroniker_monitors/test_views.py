"""Access to the metrics page, its methods and headers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import make_job
from tests.support.metrics_page import METRICS_URL, TEXT_TYPE, scrape

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]

TOKEN = "a-token-of-some-length"


def test_url_of_the_page() -> None:
    assert reverse("chroniker_monitors:metrics") == METRICS_URL


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
    ("a proxy on loopback that lies", {}, LOCAL, {"X-Forwarded-For": "127.0.0.1"}, 403),
    ("a proxy on loopback that sends the scheme", {}, LOCAL, {"X-Forwarded-Proto": "https"}, 403),
    ("a proxy on loopback that names itself", {}, LOCAL, {"Via": "1.1 varnish"}, 403),
    ("token that is not configured", {}, FAR, {"Authorization": f"Bearer {TOKEN}"}, 403),
    ("allowed network", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}, NEAR, {}, 200),
    ("allowed, IPv4 in IPv6", {"ALLOWED_NETWORKS": ["10.1.0.0/16"]}, "::ffff:10.1.2.3", {}, 200),
    ("allowed, host bits", {"ALLOWED_NETWORKS": ("10.1.2.3/16",)}, NEAR, {}, 200),
    ("allowed, one address", {"ALLOWED_NETWORKS": {"203.0.113.9"}}, FAR, {}, 200),
    ("allowed, IPv6", {"ALLOWED_NETWORKS": ["2001:db8::/32"]}, "2001:db8::5", {}, 200),
    ("not allowed, IPv6", {"ALLOWED_NETWORKS": ["0.0.0.0/0"]}, "2001:db8::5", {}, 403),
    ("another network", {"ALLOWED_NETWORKS": ["10.2.0.0/16"]}, NEAR, {}, 403),
    ("loopback in addition to networks", {"ALLOWED_NETWORKS": ["10.2.0.0/16"]}, LOCAL, {}, 200),
    ("an invalid network allows no client", {"ALLOWED_NETWORKS": ["all"]}, FAR, {}, 403),
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
    ("characters outside ASCII", {"TOKEN": TOKEN}, LOCAL, {"Authorization": "Bearer 🦄"}, 403),
    ("empty token is none", {"TOKEN": ""}, FAR, {"Authorization": "Bearer "}, 403),
]


@pytest.mark.parametrize(
    ("options", "address", "headers", "status"),
    [pytest.param(*case[1:], id=case[0]) for case in ACCESS],
)
def test_access_rules(
    settings: Any, options: dict[str, Any], address: str, headers: dict[str, str], status: int
) -> None:
    for name, value in options.items():
        setattr(settings, f"CHRONIKER_METRICS_{name}", value)
    for method in ("get", "head"):
        with CaptureQueriesContext(connection) as queries:
            response = getattr(Client(), method)(METRICS_URL, REMOTE_ADDR=address, headers=headers)
        assert response.status_code == status
        assert response["Cache-Control"] == "no-store"
        if status == 403:
            assert len(queries) == 0
            assert b"chroniker_" not in response.content


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options", "trace"])
def test_only_get_and_head(method: str) -> None:
    client = Client(enforce_csrf_checks=True)
    response = getattr(client, method)(METRICS_URL)
    assert response.status_code == 405
    assert response["Allow"] == "GET, HEAD"


def test_login_is_not_required(settings: Any) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert "chroniker_collector_up 1.0" in scrape()
    assert Client().get(METRICS_URL, REMOTE_ADDR=FAR).status_code == 403


# --- form -----------------------------------------------------------------------------------


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
def test_gzip_is_used_if_accepted(accepted: str, packed: bool) -> None:
    make_job(name="a")
    response = Client().get(METRICS_URL, headers={"accept-encoding": accepted})
    assert response.get("Content-Encoding") == ("gzip" if packed else None)
    body = gzip.decompress(response.content) if packed else response.content
    assert b'chroniker_job_enabled{job_name="a"} 1.0\n' in body
    assert response["Content-Length"] == str(len(response.content))


def test_head_has_the_headers_of_get() -> None:
    head = Client().head(METRICS_URL)
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Type"] == TEXT_TYPE
    assert int(head["Content-Length"]) > 1000


# --- what else is on the page ---------------------------------------------------------------
