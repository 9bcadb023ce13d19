"""OpenTelemetry (extra ``otel``): each run is a span, and a job continues its trace.

Nothing here imports OpenTelemetry until a run starts on a site that has configured it. For all
other sites the cost is a look at the environment and at ``sys.modules``.

- In the tick (``spans``): a span for each tick that starts something and for each run.
- In a job's process (``job_process``): spans of the job itself are children of the run's span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chroniker import signals

from .activation import is_active

if TYPE_CHECKING:
    from chroniker.models import Job, Run
    from chroniker.processes.child import CommandSpec

_UID = "chroniker.tracing"


def connect() -> None:
    """Connect the receivers to the signals of ticks, runs and jobs."""
    signals.tick_started.connect(_note_tick, dispatch_uid=_UID)
    signals.tick_finished.connect(_end_tick, dispatch_uid=_UID)
    signals.runs_starting.connect(_start_runs, dispatch_uid=_UID)
    signals.run_finished.connect(_end_run, dispatch_uid=_UID)
    signals.scheduler_ended.connect(_flush, dispatch_uid=_UID)
    signals.job_process_started.connect(_continue_trace, dispatch_uid=_UID)


def _note_tick(sender: object, *, host: str, **kwargs: object) -> None:
    if is_active():
        from .spans import run_spans

        run_spans().note_tick(host)


def _end_tick(sender: object, *, error: BaseException | None, **kwargs: object) -> None:
    if is_active():
        from .spans import run_spans

        run_spans().end_tick(error)


def _start_runs(sender: object, *, runs: list[Run], **kwargs: object) -> None:
    if is_active():
        from .spans import run_spans

        run_spans().start(runs)


def _end_run(sender: object, *, run: Run, job: Job, **kwargs: object) -> None:
    if is_active():
        from .spans import run_spans

        run_spans().end(run, job)


def _flush(sender: object, **kwargs: object) -> None:
    if is_active():
        from .spans import run_spans

        run_spans().flush()


def _continue_trace(sender: object, *, spec: CommandSpec, **kwargs: object) -> None:
    if spec.traceparent:
        from .job_process import continue_trace

        continue_trace(spec.traceparent)
