"""The two text formats, and which one a scraper wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from chroniker_monitors.collector.metrics import MetricFamily


@dataclass(frozen=True, slots=True)
class Format:
    """A text format: its content type, how it names families, and how it ends."""

    content_type: str
    openmetrics: bool
    generate: Callable[[Any], bytes]
    """prometheus_client's own renderer, for metrics that are not ours."""
    end: bytes

    def header(self, family: MetricFamily) -> bytes:
        """The lines that introduce a family."""
        text = family.help.replace("\\", r"\\").replace("\n", r"\n")
        if not self.openmetrics:
            name = family.name
            return f"# HELP {name} {text}\n# TYPE {name} {family.type}\n".encode()
        name = family.base
        unit = f"\n# UNIT {name} {family.unit}" if family.unit else ""
        text = text.replace('"', r"\"")
        return f"# HELP {name} {text}\n# TYPE {name} {family.type}{unit}\n".encode()


def _openmetrics_without_end(registry: Any) -> bytes:
    page: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return page.removesuffix(OPENMETRICS.end)


TEXT = Format("text/plain; version=0.0.4; charset=utf-8", False, generate_latest, b"")
OPENMETRICS = Format(
    "application/openmetrics-text; version=1.0.0; charset=utf-8",
    True,
    _openmetrics_without_end,
    b"# EOF\n",
)


def negotiate(accept: str) -> Format:
    """The format that an Accept header likes best; the text format if it does not say.

    OpenMetrics must be named: a browser's ``*/*`` gets plain text. RFC 9110, 12.5.1.
    """
    best, chosen = 0.0, TEXT
    for media_type, parameters in _entries(accept):
        quality = _quality(parameters)
        if media_type == "application/openmetrics-text":
            if parameters.get("version", "1.0.0") == "1.0.0" and quality >= best and quality:
                best, chosen = quality, OPENMETRICS
        elif media_type in ("text/plain", "text/*", "*/*") and quality > best:
            best, chosen = quality, TEXT
    return chosen


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header takes gzip. RFC 9110, 12.5.3."""
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
