"""Spans of ticks and runs. Only imported where runs are traced."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from django.db import DatabaseError, InterfaceError
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import SpanContext

from chroniker.alerting.links import admin_link
from chroniker.enums import RunStatus, Trigger
from chroniker.models import Job, JobDependency, Run
from chroniker.run_context import utc_text

from .export import tracer_and_flush

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

_RESULTS = {
    RunStatus.SUCCEEDED: "success",
    RunStatus.FAILED: "failure",
    RunStatus.TIMED_OUT: "timeout",
    RunStatus.STOPPED: "cancellation",
    RunStatus.INTERRUPTED: "cancellation",
    RunStatus.LOST: "error",
}
"""Run status to ``cicd.pipeline.result`` of the semantic conventions."""
_FAAS_TRIGGERS = {Trigger.SCHEDULE: "timer", Trigger.RETRY: "timer"}
"""Trigger to ``faas.trigger``; for the others the value is ``other``."""
_ERRORS = (RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST)
_propagator = TraceContextTextMapPropagator()


@lru_cache(maxsize=1)
def run_spans() -> RunSpans:
    """The spans of this process."""
    return RunSpans()


class RunSpans:
    """The spans of the current tick and of the runs that have not ended."""

    def __init__(self) -> None:
        self._tracer, self._exporter = tracer_and_flush()
        self._host = ""
        self._tick_started_at = time.time_ns()
        self._tick: Span | None = None
        self._runs: WeakKeyDictionary[Run, Span] = WeakKeyDictionary()
        """Weak: a run whose end cannot be recorded is simply forgotten by the scheduler."""

    def note_tick(self, host: str) -> None:
        """A tick begins. It has a span only if it starts something."""
        self._host, self._tick, self._tick_started_at = host, None, time.time_ns()

    def end_tick(self, error: BaseException | None) -> None:
        """The tick has started what was due."""
        if self._tick is not None:
            if error is not None:
                self._tick.set_status(Status(StatusCode.ERROR, type(error).__name__))
            self._tick.end()
        self._exporter.export_soon()

    def start(self, runs: list[Run]) -> None:
        """Start the spans of runs, and store each trace context on its run."""
        if self._tick is None:
            self._tick = self._tracer.start_span(
                "tick",
                kind=SpanKind.INTERNAL,
                attributes={"chroniker.host": self._host},
                start_time=self._tick_started_at,
                context=Context(),
            )
        parent = set_span_in_context(self._tick, Context())
        links = _upstream_links(runs)
        for run in runs:
            span = self._tracer.start_span(
                f"RUN {run.job.name}",
                context=parent,
                kind=SpanKind.SERVER,
                attributes=_attributes(run, run.job),
                links=links.get(run, ()),
            )
            carrier: dict[str, str] = {}
            _propagator.inject(carrier, set_span_in_context(span, Context()))
            run.traceparent = carrier.get("traceparent", "")
            self._runs[run] = span

    def end(self, run: Run, job: Job) -> None:
        """End the span of a run, or start and end one for a lost run of another process."""
        span = self._runs.pop(run, None)
        if span is None:
            if run.status != RunStatus.LOST or not run.traceparent:
                return
            span = self._tracer.start_span(
                f"RUN {job.name}",
                context=_propagator.extract({"traceparent": run.traceparent}, Context()),
                kind=SpanKind.SERVER,
                attributes=_attributes(run, job),
                start_time=_nanoseconds(run.started_at),
            )
        _set_end(span, run)
        span.end()
        self._exporter.export_if_many()

    def flush(self) -> None:
        """Send what is left. The process is about to end."""
        self._exporter.flush()


def _attributes(run: Run, job: Job) -> dict[str, AttributeValue]:
    values: dict[str, AttributeValue] = {
        "cicd.pipeline.name": job.name,
        "cicd.pipeline.run.id": str(run.pk),
        "cicd.pipeline.action.name": "RUN",
        "faas.trigger": _FAAS_TRIGGERS.get(Trigger(run.trigger), "other"),
        "chroniker.trigger": str(run.trigger),
        "chroniker.attempt": run.attempt,
        "chroniker.scheduled_for": utc_text(run.scheduled_for),
        "chroniker.host": run.ran_on,
    }
    if job.work_name:  # of a raw command, the arguments may contain secrets
        values["chroniker.command"] = job.work_name
    if url := admin_link(run):
        values["cicd.pipeline.run.url.full"] = url
    return values


def _set_end(span: Span, run: Run) -> None:
    status = RunStatus(run.status)
    span.set_attribute("cicd.pipeline.result", _RESULTS[status])
    span.set_attribute("chroniker.status", status.value)
    if run.exit_code is not None:
        span.set_attribute("chroniker.exit_code", run.exit_code)
    if status in _ERRORS:
        span.set_attribute("error.type", status.value)
        span.set_status(Status(StatusCode.ERROR, run.error[:1000]))


def _upstream_links(runs: Iterable[Run]) -> dict[Run, list[Link]]:
    """The last run of each upstream job, for those that were traced."""
    by_job: dict[int, list[Run]] = {}
    for run in runs:
        by_job.setdefault(run.job_id, []).append(run)
    links: dict[Run, list[Link]] = {}
    states = "upstream__states"
    try:
        found = list(
            JobDependency.objects.filter(downstream__in=list(by_job))
            .exclude(**{f"{states}__last_run__traceparent": ""})
            .values_list(
                "downstream", f"{states}__host", f"{states}__last_run",
                f"{states}__last_run__traceparent",
            )
        )  # fmt: skip
    except (DatabaseError, InterfaceError):
        return {}  # the runs start without links
    for downstream, host, upstream_run, traceparent in found:
        context = _span_context(traceparent or "")
        if context is None:
            continue
        for run in by_job[downstream]:
            if not host or not run.host or host == run.host:
                link = Link(context, {"cicd.pipeline.run.id": str(upstream_run)})
                links.setdefault(run, []).append(link)
    return links


def _span_context(traceparent: str) -> SpanContext | None:
    from opentelemetry.trace import get_current_span

    found = get_current_span(_propagator.extract({"traceparent": traceparent}, Context()))
    context = found.get_span_context()
    return context if context.is_valid else None


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1e9)
