"""A web page: its latency, its status, or a number from its JSON."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import SplitResult, urljoin, urlsplit

from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .addresses import connect, normalize_host
from .base import BaseProbe, Reading, import_modules
from .error_messages import explain_os
from .params import param
from .registry import register_probe
from .sockets import load_authorities

if TYPE_CHECKING:
    from http.client import HTTPConnection

MAX_BODY = 1024 * 1024  # bytes
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*)")
_RESERVED_HEADERS = {
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "upgrade",
}


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    seconds: float


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe(BaseProbe):
    """One HTTP request, with redirects."""

    kind: ClassVar[str] = "http"
    label: ClassVar[str] = "Web page"
    description: ClassVar[str] = "Latency or status of a URL, or a number from its JSON."
    unit: ClassVar[str] = "seconds"
    modules: ClassVar[tuple[str, ...]] = ("http.client", "ssl")

    url: str = param(label="URL", help="With http:// or https://; certificates are verified.")
    measure: str = param(
        "latency",
        label="Measure",
        choices=(
            ("latency", "Seconds until the response is complete"),
            ("status", "The status, such as 200"),
            ("as_expected", "1 if status and text are as expected, otherwise 0"),
            ("json", "A number from the JSON of the response"),
        ),
    )
    method: str = param("GET", label="Method", choices=(("GET", "GET"), ("HEAD", "HEAD")))
    expected_status: str = param(
        "200-299", label="Expected status", help="Such as 200, 200-299 or 200,404."
    )
    expected_text: str = param(
        "", label="Expected text", help="Text that the response must contain."
    )
    json_path: str = param(
        "",
        label="JSON path",
        help="Path of the number: names and positions joined by dots, such as queues.0.length.",
    )
    headers: str = param(
        "",
        label="Headers",
        help="One per line, such as Authorization: Bearer …; not sent to other hosts on redirects.",
        multiline=True,
        secret=True,
    )
    max_redirects: int = param(5, label="Redirects", minimum=0, maximum=10)

    @classmethod
    def preload(cls) -> None:
        """Also load the certificate authorities, which takes longer than a request."""
        import_modules(cls.modules)
        load_authorities()

    @classmethod
    def may_reuse_secrets(cls, stored: Mapping[str, object], given: Mapping[str, object]) -> bool:
        """Whether both URLs have the same scheme, host and port."""
        try:
            before, after = (_parse_url(str(params.get("url", ""))) for params in (stored, given))
        except ProbeError:
            return False
        return _origin(before) == _origin(after)

    def clean(self) -> None:
        """Check URL, statuses and headers, and that ``json`` has a path."""
        errors: dict[str, list[str]] = {}
        for name, check in (
            ("url", lambda: _parse_url(self.url)),
            ("expected_status", lambda: _parse_statuses(self.expected_status)),
            ("headers", lambda: _parse_headers(self.headers)),
        ):
            try:
                check()
            except ProbeError as error:
                errors[name] = [str(error)]
        if self.measure == "json" and not self.json_path:
            errors["json_path"] = ["The measure json needs a JSON path."]
        if self.method == "HEAD" and (self.measure == "json" or self.expected_text):
            errors["method"] = ["A response to HEAD has no text. Use GET."]
        if errors:
            raise ParamsInvalid(errors)

    def run(self) -> Reading:
        """Fetch the page and compare the response with what is expected."""
        response = self._fetch()
        mismatch = self._find_mismatch(response)
        message = f"{response.status} in {response.seconds:.3f} s, {len(response.body)} bytes"
        if self.measure == "status":
            return Reading(response.status, mismatch or message, "status")
        if self.measure == "as_expected":
            return Reading(0 if mismatch else 1, mismatch or message, "yes or no")
        if mismatch:
            raise ProbeError(f"{mismatch[0].upper()}{mismatch[1:]}.")
        if self.measure == "json":
            return Reading(_number(response.body, self.json_path), message, "")
        return Reading(response.seconds, message)

    def _find_mismatch(self, response: _Response) -> str:
        if not any(
            first <= response.status <= last
            for first, last in _parse_statuses(self.expected_status)
        ):
            return f"the status was {response.status}, expected {self.expected_status}"
        if self.expected_text and self.expected_text.encode() not in response.body:
            return f"the response does not contain {self.expected_text!r:.100}"
        return ""

    def _fetch(self) -> _Response:
        began = time.monotonic()
        url, headers = self.url, _parse_headers(self.headers)
        for _ in range(self.max_redirects + 1):
            parts = _parse_url(url)
            status, location, body = _request(parts, self.method, headers)
            if status not in _REDIRECTS or location is None:
                return _Response(status, body, time.monotonic() - began)
            if not self.max_redirects:
                return _Response(status, body, time.monotonic() - began)
            url = urljoin(url, location)
            if _origin(_parse_url(url)) != _origin(parts):
                headers = {}  # they may contain credentials for the first host
        raise ProbeError(
            f"There were more than {self.max_redirects} redirects, the last one to {url}."
        )


def _parse_url(url: str) -> SplitResult:
    """Split a URL. Raises ProbeError if it is invalid or has parts that monitors do not support."""
    if not url.isprintable() or re.search(r"[\s\\]", url):
        raise ProbeError(f"{url!r:.200} is not a URL: write special characters as %XX.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ProbeError(f"{url!r:.200} is not a URL: {error}.") from error
    if parts.scheme not in _PORTS:
        raise ProbeError(f"{url!r:.200} is not supported. Use http:// or https://.")
    if "@" in parts.netloc:
        raise ProbeError(
            "Put the user name and password into an Authorization header, not into the URL."
        )
    if not parts.hostname or port == 0:
        raise ProbeError(f"{url!r:.200} has no host.")
    normalize_host(parts.hostname)
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]


def _parse_statuses(text: str) -> list[tuple[int, int]]:
    found = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([1-5]\d\d)(?:-([1-5]\d\d))?\s*", piece)
        if match is None:
            raise ProbeError(
                f"{text!r:.50} is not a list of statuses, such as 200, 200-299 or 200,404."
            )
        found.append((int(match[1]), int(match[2] or match[1])))
    return found


def _parse_headers(text: str) -> dict[str, str]:
    found = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        match = _HEADER.fullmatch(line)
        if match is None:
            raise ProbeError("A line is not a header such as `Accept: text/html` (in ASCII).")
        if match[1].lower() in _RESERVED_HEADERS:
            raise ProbeError(f"The header {match[1]} is set by the monitor and cannot be changed.")
        found[match[1]] = match[2]
    return found


def _request(
    parts: SplitResult, method: str, headers: dict[str, str]
) -> tuple[int, str | None, bytes]:
    """Send one request. Returns status, redirect target and body."""
    from http.client import HTTPException

    place = parts.netloc
    connection = _connection(parts)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = path.encode("ascii", "strict").decode() if path.isascii() else _quoted(path)
        connection.request(
            method,
            path,
            headers={"User-Agent": "Chroniker", "Accept-Encoding": "identity"}
            | headers
            | {"Connection": "close"},
        )
        with contextlib.closing(connection.getresponse()) as response:
            body = response.read(MAX_BODY + 1)
            if len(body) > MAX_BODY:
                raise ProbeError(f"The response of {place} is larger than {MAX_BODY} bytes.")
            return response.status, response.getheader("Location"), body
    except TimeoutError as error:
        raise ProbeError(f"{place} did not send a complete response in time.") from error
    except OSError as error:
        raise ProbeError(_explain(error, place)) from error
    except HTTPException as error:
        raise ProbeError(
            f"{place} sent an invalid HTTP response: {type(error).__name__} {error}."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            connection.close()


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path, safe="%/:=&?~#+!$,;'@()*[]")


def _explain(error: OSError, place: str) -> str:
    from ssl import SSLError

    from .tls_connections import explain_tls

    return explain_tls(error, place) if isinstance(error, SSLError) else explain_os(error, place)


def _connection(parts: SplitResult) -> HTTPConnection:
    """A connection of the standard library, over a socket whose address is checked on connect."""
    from http.client import HTTPConnection

    name = normalize_host(parts.hostname or "")
    secure = parts.scheme == "https"

    class _GuardedConnection(HTTPConnection):
        default_port = _PORTS[parts.scheme]

        def connect(self) -> None:
            self.sock = connect(self.host, self.port)
            if secure:
                from .tls_connections import wrap_tls

                try:
                    self.sock = wrap_tls(self.sock, name)
                except BaseException:
                    self.sock.close()
                    raise

    return _GuardedConnection(name, parts.port or _PORTS[parts.scheme])


def _number(body: bytes, path: str) -> float:
    """Return the number at a path of a JSON document. Raises ProbeError."""
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProbeError(f"The response is not JSON: it begins with {body[:40]!r}.") from error
    path_so_far: list[str] = []
    for step in path.split("."):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            place = ".".join(path_so_far) or "the document"
            raise ProbeError(f"The JSON has no {step!r} in {place}.")
        path_so_far.append(step)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ProbeError(f"The JSON has {found!r:.60} at {path}, which is not a number.")
    return float(found)
