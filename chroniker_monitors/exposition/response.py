"""A request for the page: who may have it, in which format, how packed."""

from __future__ import annotations

import gzip
import hmac
import ipaddress
from functools import lru_cache

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers

from chroniker_monitors.conf import conf

from .formats import accepts_gzip, negotiate
from .page import page

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORBIDDEN = "Forbidden: CHRONIKER_METRICS_TOKEN or CHRONIKER_METRICS_ALLOWED_NETWORKS decide.\n"


def respond(request: HttpRequest) -> HttpResponse:
    """The page, or 403 before anything is read."""
    if not is_allowed(request):
        return _disable_cache(
            HttpResponse(FORBIDDEN, status=403, content_type="text/plain; charset=utf-8")
        )
    form = negotiate(request.headers.get("Accept", ""))
    body = page(form)
    response = HttpResponse(content_type=form.content_type)
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        # Level 1: the page is large and repeats itself, so more work gains next to nothing.
        body = gzip.compress(body, compresslevel=1, mtime=0)
        response["Content-Encoding"] = "gzip"
    response.content = body
    response["Content-Length"] = str(len(body))
    patch_vary_headers(response, ("Accept", "Accept-Encoding"))
    return _disable_cache(response)


def is_allowed(request: HttpRequest) -> bool:
    """Whether the request bears the token or, where there is none, comes from near enough.

    The address is the connection's; no header can change it. A request that a proxy handed on
    does not come from the proxy's address: on loopback it is nobody's word for being local.
    """
    token = conf.METRICS_TOKEN
    if token:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(errors="backslashreplace"), str(token).encode()
        )
    address = parse_address(request.META.get("REMOTE_ADDR", ""))
    if address is None:
        return False
    if address.is_loopback and not _is_proxied(request):
        return True
    networks = parse_networks(tuple(map(str, conf.METRICS_ALLOWED_NETWORKS)))
    return any(network.version == address.version and address in network for network in networks)


def parse_address(text: str) -> Address | None:
    """An address; IPv4 written as IPv6 (::ffff:127.0.0.1) is IPv4. None if it is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8)
def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks; what is none allows nobody (``manage.py check`` reports it)."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return tuple(networks)


def _is_proxied(request: HttpRequest) -> bool:
    """Whether any header says so: many a proxy tells the scheme or the host, and not for whom."""
    return any(
        header in ("forwarded", "via", "x-real-ip") or header.startswith("x-forwarded-")
        for header in map(str.lower, request.headers)
    )


def _disable_cache(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
