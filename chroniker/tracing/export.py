"""Where spans go: to the site's tracer provider, or over OTLP/HTTP to the configured endpoint.

Our own exporter keeps no thread. The process of a tick forks, and a fork of a process with threads
may inherit a lock that is never released: so spans are collected, and sent by a thread that lives
only as long as one request (see ``background``), or by the process itself before it ends.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.semconv.resource import ResourceAttributes

from chroniker import __version__, background
from chroniker.conf import conf
from chroniker.logs import log_context
from chroniker.outages import Outage

from .activation import ENDPOINTS, site_has_provider

logger = logging.getLogger(__name__)

_MAX_SPANS = 4096
"""The oldest are dropped beyond that, if the receiver does not answer."""
_BATCH = 512
_MANY = 256
_THREAD = "chroniker-otel"
_WAIT_SECONDS = 15.0


class SpanExport(Protocol):
    """Sends finished spans."""

    def export_soon(self) -> None:
        """Send what there is, without waiting."""

    def export_if_many(self) -> None:
        """The same, if there is much."""

    def flush(self) -> None:
        """Send what there is, and wait. Nothing is forked after that."""


def tracer_and_flush() -> tuple[trace.Tracer, SpanExport]:
    """The tracer of this process, and what sends its spans."""
    if site_has_provider():
        provider = trace.get_tracer_provider()
        return trace.get_tracer("chroniker", __version__), _SiteExport(provider)
    collected = CollectedSpans()
    own = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    own.add_span_processor(collected)
    return own.get_tracer("chroniker", __version__), collected


def _resource() -> Resource:
    # Not Resource.create(): its detectors run in threads.
    ours = {
        ResourceAttributes.SERVICE_NAME: "chroniker",
        ResourceAttributes.SERVICE_VERSION: __version__,
        ResourceAttributes.HOST_NAME: conf.HOSTNAME,
        ResourceAttributes.TELEMETRY_SDK_LANGUAGE: "python",
        ResourceAttributes.TELEMETRY_SDK_NAME: "opentelemetry",
    }
    return Resource(ours).merge(OTELResourceDetector().detect())


class _SiteExport:
    """The site's own provider, which sends by itself."""

    def __init__(self, provider: trace.TracerProvider) -> None:
        self._provider = provider

    def export_soon(self) -> None:
        pass

    def export_if_many(self) -> None:
        pass

    def flush(self) -> None:
        force_flush = getattr(self._provider, "force_flush", None)
        if force_flush is not None:
            force_flush()


class CollectedSpans(SpanProcessor):
    """Collects finished spans until they are sent."""

    def __init__(self) -> None:
        self._spans: deque[ReadableSpan] = deque(maxlen=_MAX_SPANS)
        self._pid = os.getpid()

    def on_end(self, span: ReadableSpan) -> None:
        """Collect a span that was sampled."""
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled and os.getpid() == self._pid:
            self._spans.append(span)

    def export_soon(self) -> None:
        """Send what there is in a thread, unless one is sending already."""
        if self._spans:
            background.run_in_background(self._send_all, name=_THREAD)

    def export_if_many(self) -> None:
        """The same, if there is much."""
        if len(self._spans) >= _MANY:
            self.export_soon()

    def flush(self) -> None:
        """Send what there is, and wait for the receiver."""
        background.wait(_THREAD, _WAIT_SECONDS)
        self._send_all()

    def _send_all(self) -> None:
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(_BATCH, len(self._spans)))]
            if not _send(batch):
                return  # lost; the rest is sent with the next spans


def _send(batch: Sequence[ReadableSpan]) -> bool:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    outage = Outage(logger, "otel")
    endpoint = next((value for name in ENDPOINTS if (value := os.environ.get(name))), "")
    quiet = logging.getLogger("opentelemetry.exporter")
    if quiet.level == logging.NOTSET:
        quiet.setLevel(logging.CRITICAL)  # it would log at each tick, and cron would mail that
    exporter = OTLPSpanExporter()
    try:
        sent = exporter.export(batch) is SpanExportResult.SUCCESS
    except Exception:
        sent = False
        logger.debug("Spans could not be sent", exc_info=True, extra=log_context())
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
    if sent:
        outage.end("Spans are received again by %s", endpoint)
    else:
        outage.begin("Spans were not received by %s", endpoint)
    return sent
