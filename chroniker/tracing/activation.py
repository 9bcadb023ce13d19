"""Whether this process traces runs, without importing OpenTelemetry."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The environment variables that name a receiver of spans."""

_installed: bool | None = None


def is_active() -> bool:
    """Whether runs are traced.

    They are if the site has set OpenTelemetry up, or if the environment names an endpoint.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return site_has_provider() or (names_endpoint() and _sdk_is_installed())


def site_has_provider() -> bool:
    """Whether the site's own code has set a tracer provider in this process."""
    api = sys.modules.get("opentelemetry.trace")
    return api is not None and getattr(api, "_TRACER_PROVIDER", None) is not None


def names_endpoint() -> bool:
    """Whether the environment names where spans are sent."""
    if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return False
    return any(os.environ.get(name) for name in ENDPOINTS)


def _sdk_is_installed() -> bool:
    global _installed
    if _installed is None:
        try:
            _installed = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
        except ModuleNotFoundError:
            _installed = False
    return _installed
