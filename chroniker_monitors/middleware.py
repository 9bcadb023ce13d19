"""Middleware for scrapes and pings that reach the site by a pod's address or by plain HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, Resolver404, resolve, reverse
from django.urls.base import get_script_prefix

from . import views

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
_ANY_ADDRESS = "00000000-0000-0000-0000-000000000000"


class MetricsMiddleware:
    """Answers ``/metrics`` and ``/ping/…`` before other middleware sees the request.

    Prometheus scrapes each pod by its address, which cannot be listed in ``ALLOWED_HOSTS``, and by
    HTTP, which ``SECURE_SSL_REDIRECT`` redirects. Neither page uses the host of the request. Who
    may read the metrics is still decided by the token and the allowed networks. It must be the
    first in ``MIDDLEWARE``.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer the request, or pass it on."""
        if self._is_async:
            return self._answer_async(request)
        return _answer(request) or self._get_response(request)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        # Only what is ours goes to a thread: both views query the database.
        response = None
        if _is_ours(request):
            response = await sync_to_async(_answer, thread_sensitive=True)(request)
        if response is None:
            passed = self._get_response(request)
            assert isinstance(passed, Awaitable)
            return await passed
        return response


def _is_ours(request: HttpRequest) -> bool:
    metrics, pings = _paths(settings.ROOT_URLCONF, get_script_prefix())
    return request.path == metrics or bool(pings and request.path.startswith(pings))


def _answer(request: HttpRequest) -> HttpResponseBase | None:
    """Return the response of one of our views; None if the request is for another one."""
    if not _is_ours(request):
        return None
    try:
        match = resolve(request.path_info)
    except Resolver404:
        return None
    if match.func not in (views.metrics, views.ping):
        return None
    response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
    return response


@lru_cache(maxsize=8)
def _paths(urlconf: str, script_prefix: str) -> tuple[str, str]:
    """Return the path of the metrics and the prefix of pings; "" where the site has no such URL."""
    try:
        pings = reverse("chroniker_monitors:ping", args=(_ANY_ADDRESS,))
        return reverse("chroniker_monitors:metrics"), pings.partition(_ANY_ADDRESS)[0]
    except NoReverseMatch:
        return "", ""
