"""Live updates: 304 as long as nothing has changed."""

from __future__ import annotations

import json

from django.test import RequestFactory
from django.utils.timezone import now as utc_now

from chroniker.admin import formats
from chroniker.admin.live import live_response


def request(etag: str = ""):  # type: ignore[no-untyped-def]
    headers = {"If-None-Match": etag} if etag else {}
    return RequestFactory().get("/live/", headers=headers)


def test_unchanged_content_is_304() -> None:
    first = live_response(request(), {"a": "<b>x</b>"}, active=True)
    assert first.status_code == 200
    assert json.loads(first.content) == {
        "fragments": {"a": "<b>x</b>"}, "flags": {}, "active": True,
    }  # fmt: skip
    etag = first["ETag"]
    for tag in (etag, "W/" + etag, f'"other", {etag}'):
        again = live_response(request(tag), {"a": "<b>x</b>"}, active=True)
        assert again.status_code == 304
        assert again.content == b""
    assert live_response(request(etag), {"a": "y"}, active=True).status_code == 200
    assert live_response(request(etag), {"a": "<b>x</b>"}, active=False).status_code == 200


def test_relative_times_are_no_change() -> None:
    now = utc_now()
    html = formats.time_html(now)
    later = html.replace("now", "5 minutes ago")
    assert later != html
    etag = live_response(request(), {"a": html}, active=True)["ETag"]
    assert live_response(request(etag), {"a": later}, active=True).status_code == 304
    moved = formats.time_html(now.replace(year=2001))
    assert live_response(request(etag), {"a": moved}, active=True).status_code == 200


def test_answers_are_not_cached_by_proxies() -> None:
    response = live_response(request(), {}, active=False)
    assert response["Cache-Control"] == "private, no-cache"
