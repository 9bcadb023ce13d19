"""The page that Prometheus scrapes."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest


@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    """The metrics of this process, to loopback only, until the collector is in place."""
    if request.META.get("REMOTE_ADDR") not in ("127.0.0.1", "::1"):
        return HttpResponse(status=403)
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_PLAIN_0_0_4)
