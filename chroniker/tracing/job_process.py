"""In a job's process: the site's own spans become children of the run's span."""

from __future__ import annotations

import atexit

from .activation import site_has_provider


def continue_trace(traceparent: str) -> None:
    """Make the run's span the parent of the spans that this process starts.

    Only if the site has set OpenTelemetry up here; any other job reads TRACEPARENT itself. Spans
    that wait to be exported are sent before the process ends: it leaves without the handlers that
    the SDK registered before the fork.
    """
    if not site_has_provider():
        return
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context.attach(TraceContextTextMapPropagator().extract({"traceparent": traceparent}))
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        atexit.register(flush)
