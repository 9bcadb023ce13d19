"""The two text formats, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from chroniker_monitors.collector.metrics import MetricFamily

_OPENMETRICS_TYPE = "application/openmetrics-text"
_MEDIA_TYPES = {_OPENMETRICS_TYPE, "text/plain", "text/*", "*/*"}


@dataclass(frozen=True, slots=True)
class Format:
    """A text format: content type, family names, end of the page."""

    content_type: str
    openmetrics: bool
    generate: Callable[[Collector], bytes]
    """prometheus_client's renderer, for the metrics of other collectors."""
    end: bytes

    def header(self, family: MetricFamily) -> bytes:
        """Return the lines that introduce a family."""
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        if not self.openmetrics:
            name = family.name
            return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n".encode()
        name = family.base
        unit = f"\n# UNIT {name} {family.unit}" if family.unit else ""
        text = text.replace('"', r"\"")
        return f"# HELP {name} {text}\n# TYPE {name} {family.type}{unit}\n".encode()


def _openmetrics_without_end(collector: Collector) -> bytes:
    page: bytes = generate_openmetrics(collector)  # type: ignore[no-untyped-call]
    return page.removesuffix(OPENMETRICS.end)


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", False, generate_latest, b"")
OPENMETRICS = Format(
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    True,
    _openmetrics_without_end,
    b"# EOF\n",
)


@lru_cache(maxsize=64)
def negotiate(accept: str) -> Format:
    """Return the format that an Accept header prefers; the text format by default.

    prometheus_client chooses between the entries of the highest quality. It knows neither ``q``
    values nor which versions of OpenMetrics exist, so both are handled here. OpenMetrics has to be
    named: a browser's ``*/*`` gets plain text. RFC 9110, 12.5.1.
    """
    qualities: dict[str, float] = {}
    for media_type, parameters in _entries(accept):
        if media_type in _MEDIA_TYPES and _is_supported_version(media_type, parameters):
            qualities[media_type] = max(_quality(parameters), qualities.get(media_type, 0.0))
    best = max(qualities.values(), default=0.0)
    preferred = [name for name, quality in qualities.items() if quality == best > 0]
    _, content_type = choose_encoder(",".join(preferred))
    return OPENMETRICS if content_type.startswith(_OPENMETRICS_TYPE) else TEXT


def _is_supported_version(media_type: str, parameters: dict[str, str]) -> bool:
    return media_type != _OPENMETRICS_TYPE or parameters.get("version", "1.0.0") == "1.0.0"


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip. RFC 9110, 12.5.3.

    prometheus_client's own function ignores ``q=0`` and ``*``.
    """
    accepted = {coding: _quality(parameters) for coding, parameters in _entries(accept_encoding)}
    return accepted.get("gzip", accepted.get("*", 0)) > 0


def _entries(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for entry in header.split(","):
        value, *parameters = (part.strip() for part in entry.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        yield value.lower(), {key.strip().lower(): text.strip(' "') for key, _, text in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return min(max(float(parameters.get("q", "1")), 0.0), 1.0)
    except ValueError:
        return 0.0
