"""The history of an imported job: runs, output, and what the state knows of the last run."""

from __future__ import annotations

from collections.abc import Sequence

from chroniker.conf import conf
from chroniker.engine.output_store import store_output
from chroniker.enums import RunStatus, Stream
from chroniker.masking import Masker, site_secrets
from chroniker.models import Job, JobState, Run
from chroniker.processes.output import Recorder

from .definitions import ImportedRun

_STREAMS = (Stream.STDOUT, Stream.STDERR)


def write_history(
    job: Job, runs: Sequence[ImportedRun], last_run: ImportedRun | None = None
) -> int:
    """Create the runs of a new job, at most as many as it keeps; return their number.

    ``last_run`` is recorded on the state if there are no runs.

    Counters are not changed: they count the runs that Chroniker has started.
    """
    newest = sorted(runs, key=lambda run: run.started_at)
    if job.max_runs_kept is not None:
        newest = newest[-job.max_runs_kept :]
    known = newest or ([last_run] if last_run else [])
    if known and not job.every_host:
        _write_state(job, known)
    if not newest:
        return 0
    masker = Masker(site_secrets())
    taken: dict[tuple[object, str], int] = {}
    for run in newest:
        placement = run.ran_on if job.every_host else ""
        attempt = taken[run.started_at, placement] = taken.get((run.started_at, placement), 0) + 1
        _write_run(job, run, placement, attempt, masker)
    return len(newest)


def _write_run(job: Job, run: ImportedRun, placement: str, attempt: int, masker: Masker) -> None:
    ended = run.ended_at or run.started_at
    row = Run.objects.create(
        job=job,
        host=placement,
        ran_on=run.ran_on,
        scheduled_for=run.started_at,
        attempt=attempt,
        status=run.status,
        started_at=run.started_at,
        ended_at=ended,
        duration_seconds=(ended - run.started_at).total_seconds(),
        stdout_bytes=len(run.stdout.encode("utf-8", "backslashreplace")),
        stderr_bytes=len(run.stderr.encode("utf-8", "backslashreplace")),
    )
    if not run.stdout and not run.stderr:
        return
    recorder = Recorder(_STREAMS, conf.MAX_OUTPUT_BYTES, masker)
    for stream, text in zip(_STREAMS, (run.stdout, run.stderr), strict=True):
        if text:
            recorder.feed(stream, text.encode("utf-8", "backslashreplace"))
    store_output(row.pk, recorder.take(final=True), ended)


def _write_state(job: Job, runs: Sequence[ImportedRun]) -> None:
    """Record the last run, for which jobs downstream may wait."""
    last = runs[-1]
    good = [run for run in runs if run.status == RunStatus.SUCCEEDED]
    bad = [run for run in runs if run.status != RunStatus.SUCCEEDED]
    ended = last.ended_at or last.started_at
    JobState.objects.create(
        job=job,
        last_status=last.status,
        last_started_at=last.started_at,
        last_ended_at=ended,
        last_duration_seconds=(ended - last.started_at).total_seconds(),
        last_success_at=(good[-1].ended_at or good[-1].started_at) if good else None,
        last_failure_at=(bad[-1].ended_at or bad[-1].started_at) if bad else None,
    )
