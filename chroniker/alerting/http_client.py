"""The HTTP client of the webhook and the dead man's switch.

It makes one attempt and never retries by itself, not even on ``Retry-After``. Proxies are taken
from the environment (``http_proxy``, ``https_proxy``, ``no_proxy``); after a redirect the proxy of
the first URL is kept. Certificates are verified against the system's authorities.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, MaxRetryError
from urllib3.util import Retry, Timeout, make_headers, parse_url

from chroniker import __version__
from chroniker.exceptions import ChronikerError

_READ_BYTES = 1024
"""How much of the response is read, so that the server can finish sending it."""
_MAX_REDIRECTS = 10


class UnexpectedStatus(ChronikerError):
    """The server answered with a status other than 2xx."""

    def __init__(self, status: int, reason: str | None) -> None:
        super().__init__(f"the server answered {status} {reason or ''}".rstrip())
        self.status = status


def send_request(
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    follow_redirects: bool = False,
) -> None:
    """Send one request and wait for the response.

    ``seconds`` limits connecting and each read. Raises UnexpectedStatus for any status but 2xx,
    ValueError for a URL that is not http or https, and urllib3's HTTPError if there is no response.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError("The URL does not start with http:// or https://.")
    try:
        target = parse_url(url)
    except LocationValueError:
        raise ValueError("The URL is malformed.") from None  # its error would quote the URL
    all_headers = {"User-Agent": f"chroniker/{__version__}", **(headers or {})}
    if target.auth:
        all_headers |= make_headers(basic_auth=unquote(target.auth))
    with _make_pool(target) as pool:
        try:
            response = pool.request(
                method,
                url,
                headers=all_headers,
                body=body,
                timeout=Timeout(connect=seconds, read=seconds),
                retries=_redirects_only() if follow_redirects else False,
                preload_content=False,
            )
        except MaxRetryError as error:
            raise HTTPError(str(error.reason)) from None  # its own text quotes the URL
        try:
            if not 200 <= response.status < 300:
                raise UnexpectedStatus(response.status, response.reason)
            response.read(_READ_BYTES, decode_content=False)
        finally:
            response.close()


def _redirects_only() -> Retry:
    # Without respect_retry_after_header, urllib3 would sleep and retry a 429 or 503.
    return Retry(
        total=_MAX_REDIRECTS,
        connect=False,
        read=False,
        status=0,
        other=0,
        redirect=_MAX_REDIRECTS,
        respect_retry_after_header=False,
    )


def _make_pool(target: urllib3.util.Url) -> urllib3.PoolManager:
    proxy = getproxies().get(target.scheme or "")
    if not proxy or not target.host or proxy_bypass(target.netloc or target.host):
        return urllib3.PoolManager()
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    auth = parse_url(proxy).auth
    return urllib3.ProxyManager(
        proxy, proxy_headers=make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    )
