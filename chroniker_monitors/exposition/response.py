"""Answer a request for the page: check access, choose the format, compress."""

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

FORBIDDEN = (
    "Forbidden. Send the token of CHRONIKER_METRICS_TOKEN, or add your network to "
    "CHRONIKER_METRICS_ALLOWED_NETWORKS.\n"
)


def respond(request: HttpRequest) -> HttpResponse:
    """Return the page, or 403 before anything is read from the database."""
    if not is_allowed(request):
        return _disable_cache(
            HttpResponse(FORBIDDEN, status=403, content_type="text/plain; charset=utf-8")
        )
    form = negotiate(request.headers.get("Accept", ""))
    body = page(form)
    response = HttpResponse(content_type=form.content_type)
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        # Level 1: the page is large and repetitive; higher levels gain almost nothing.
        body = gzip.compress(body, compresslevel=1, mtime=0)
        response["Content-Encoding"] = "gzip"
    response.content = body
    response["Content-Length"] = str(len(body))
    patch_vary_headers(response, ("Accept", "Accept-Encoding"))
    return _disable_cache(response)


def is_allowed(request: HttpRequest) -> bool:
    """Whether the request has the token or, if none is set, comes from an allowed address.

    The address is that of the connection; headers cannot change it. A request that came through
    a proxy on the same machine has a loopback address without being local, so it is refused.
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
    """Parse an address; IPv4 mapped to IPv6 (``::ffff:127.0.0.1``) is IPv4. None if invalid."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=8)
def parse_networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Parse networks. Invalid ones are skipped; ``manage.py check`` reports them."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    return tuple(networks)


def _is_proxied(request: HttpRequest) -> bool:
    """Whether any header was set by a proxy; many set the scheme or host, but no client address."""
    return any(
        header in ("forwarded", "via", "x-real-ip") or header.startswith("x-forwarded-")
        for header in map(str.lower, request.headers)
    )


def _disable_cache(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    response["X-Content-Type-Options"] = "nosniff"
    return response
