"""How runs end in the database: once, counted in the same transaction, and only by their owner."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError
from django.db.models import SET_NULL, F, ForeignObjectRel, Q

from . import incidents
from .buckets import add_observation
from .clock import StatementNow
from .commands import CHECK_MONITOR
from .enums import FAILURE_REASONS, IncidentKind, RunStatus, Severity, Trigger
from .models import Job, JobDependency, JobState, OutputChunk, Run
from .output import Piece, Taken
from .supervisor import Outcome

_STATEMENT_CHARACTERS = 2_000_000
"""How much text goes into one INSERT: MariaDB ends the connection over a larger packet."""
_LARGE_CHARACTERS = 8192
_LONGEST_DELAY = timedelta(days=3650)

NOBODYS: dict[str, Any] = {
    "lease_token": None,
    "lease_expires_at": None,
    "lease_host": "",
    "lease_owner": "",
    "current_run": None,
}
"""The columns of a state that nobody owns."""
_DELETE_BATCH = 500


@dataclass(slots=True)
class Ended:
    """A run that has ended, and all that is to be written about it."""

    state: JobState
    job: Job
    run: Run
    token: str
    outcome: Outcome
    ended_at: datetime
    has_dependents: bool
    output: Taken = field(default_factory=Taken)
    written: dict[str, int] = field(default_factory=dict)
    parts: tuple[int, int] | None = None
    pid: int | None = None
    refusals: int = 0
    """How often the database refused to take it."""
    run_is_gone: bool = False
    """Somebody has deleted the row of the run while it ran."""


def end_run(ended: Ended, *, only_if_stale: bool = False) -> bool:
    """Write the end of a run, fenced by its token; False where somebody else owns it by now.

    To be called in a transaction. After a False nothing of the run may be written any more.
    ``only_if_stale``: the caller is not the owner, but takes away a lease that has run out.
    """
    mine = JobState.objects.filter(pk=ended.state.pk, lease_token=ended.token)
    if only_if_stale:
        mine = mine.filter(lease_expires_at__lt=StatementNow())
    if not mine.update(**_state_facts(ended)):
        return False
    outcome = ended.outcome
    Run.objects.running().filter(pk=ended.run.pk).update(
        status=outcome.status,
        ended_at=ended.ended_at,
        duration_seconds=outcome.seconds,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        error=outcome.error,
        cpu_seconds=outcome.cpu_seconds,
        max_rss_bytes=outcome.max_rss_bytes,
        **_parts(ended.parts),
        **{f"{stream}_bytes": size for stream, size in ended.written.items()},
        **({"pid": ended.pid} if ended.pid else {}),
    )
    store_output(ended.run.pk, ended.output, ended.ended_at)
    if ended.has_dependents:
        _wake_dependents(ended)
    _tell(ended)
    return True


def release(ended: Ended) -> None:
    """Let go of a state whose run's end cannot be written, and of the run if that can be."""
    mine = Run.objects.running().filter(pk=ended.run.pk, current_state__lease_token=ended.token)
    with contextlib.suppress(DatabaseError):  # what stays running is found: reaping.adopt()
        mine.update(status=RunStatus.LOST, ended_at=ended.ended_at, error=ended.outcome.error[:500])
    JobState.objects.filter(pk=ended.state.pk, lease_token=ended.token).update(**NOBODYS)


def was_ended_by(ended: Ended) -> bool:
    """Whether the end was written before, by a commit whose reply was lost."""
    return Run.objects.filter(
        pk=ended.run.pk, status=ended.outcome.status, ended_at=ended.ended_at
    ).exists()


def _state_facts(ended: Ended) -> dict[str, Any]:
    outcome, state, job = ended.outcome, ended.state, ended.job
    facts: dict[str, Any] = {
        **NOBODYS,
        "stop_requested_at": None,
        "last_run": None if ended.run_is_gone else ended.run,
        "last_status": outcome.status,
        "last_ended_at": ended.ended_at,
        "last_error": outcome.error[:500],
        "runs_total": F("runs_total") + 1,
        **_parts(ended.parts),
    }
    if outcome.status == RunStatus.SUCCEEDED:
        facts.update(last_success_at=ended.ended_at, consecutive_failures=0)
        if state.failing_incident:
            facts["failing_incident"] = False
    else:
        counter = f"failures_{FAILURE_REASONS[outcome.status].value}"
        facts.update({"last_failure_at": ended.ended_at, counter: F(counter) + 1})
        if outcome.status != RunStatus.STOPPED:
            facts["consecutive_failures"] = F("consecutive_failures") + 1
            facts.update(_retry(ended.run, job, ended.ended_at))
            if _is_alarming(ended):
                facts["failing_incident"] = True
    if outcome.seconds is not None:
        facts.update(
            last_duration_seconds=outcome.seconds,
            duration_seconds_sum=F("duration_seconds_sum") + outcome.seconds,
            duration_count=F("duration_count") + 1,
            # Read when the state was claimed; only the owner of the token writes it.
            duration_buckets=add_observation(state.duration_buckets, outcome.seconds),
        )
    if outcome.cpu_seconds is not None:
        facts["cpu_seconds_total"] = F("cpu_seconds_total") + outcome.cpu_seconds
        facts["last_max_rss_bytes"] = outcome.max_rss_bytes
    return facts


def _is_alarming(ended: Ended) -> bool:
    """Whether this failure makes an incident, or goes on with one.

    Of a monitor, the severity of what it measured tells.
    """
    job = ended.job
    if job.command == CHECK_MONITOR and job.args == f"--job-id {job.pk}":
        return False
    state = ended.state  # read when it was claimed; only the owner of the token writes these
    return state.failing_incident or (
        state.consecutive_failures + 1 >= ended.job.failures_before_alert
    )


def _tell(ended: Ended) -> None:
    """Incidents and mails, in the transaction that ends the run. Mostly there is nothing to do."""
    outcome, state, job = ended.outcome, ended.state, ended.job
    run, now = None if ended.run_is_gone else ended.run, ended.ended_at
    if outcome.status == RunStatus.SUCCEEDED:
        if state.failing_incident:
            incidents.resolve(
                job, state.host, IncidentKind.FAILING, "A run succeeded.", now, run=run
            )
        if job.email_on_success and run is not None:
            incidents.tell_success(job, run, now)
    elif outcome.status != RunStatus.STOPPED and _is_alarming(ended):
        incidents.open_or_update(
            job,
            state.host,
            IncidentKind.FAILING,
            Severity.WARNING,
            outcome.error or f"The run {outcome.status}.",
            now,
            run=run,
        )


def _parts(parts: tuple[int, int] | None) -> dict[str, int | None]:
    if parts is None:
        return {}
    total, done = parts
    return {"parts_total": total or None, "parts_done": done}


def _retry(run: Run, job: Job, ended_at: datetime) -> dict[str, Any]:
    """When the next attempt starts, if the job has one left; the delay doubles each time."""
    if run.trigger == Trigger.MANUAL or run.attempt > job.max_retries:
        return {}
    seconds = job.retry_delay_seconds * 2 ** min(run.attempt - 1, 20)
    delay = timedelta(seconds=min(seconds, _LONGEST_DELAY.total_seconds()))
    return {
        "retry_at": ended_at + delay,
        "retry_slot_at": run.scheduled_for,
        "retry_attempt": run.attempt + 1,
    }


def _wake_dependents(ended: Ended) -> None:
    """Ask for a run of the jobs that have no schedule but wait for this one."""
    waiting = JobDependency.objects.filter(
        dependee=ended.job, dependent__enabled=True, dependent__schedule=""
    )
    if ended.outcome.status != RunStatus.SUCCEEDED:
        waiting = waiting.filter(wait_for_success=False)
    dependents = list(waiting.values_list("dependent", flat=True))
    if dependents:
        states = JobState.objects.current().filter(
            job__in=dependents, run_requested_at__isnull=True
        )
        if ended.state.host:
            states = states.filter(Q(host="") | Q(host=ended.state.host))
        # The dependee's own slot: it has come, so the tick that runs the chain goes on with it.
        states.update(run_requested_at=ended.run.scheduled_for, run_requested_by=Trigger.DEPENDENCY)


def store_output(run: int, taken: Taken, now: datetime) -> None:
    """Add pieces of output, and delete those that have left the tail."""
    for pieces in _statements(taken.pieces):
        OutputChunk.objects.bulk_create(
            OutputChunk(
                run_id=run,
                stream=piece.stream,
                offset=piece.offset,
                size=piece.size,
                text=piece.text,
                written_at=now,
            )
            for piece in pieces
        )
    for stream, (first, last) in taken.expired.items():
        OutputChunk.objects.filter(
            run=run, stream=stream, offset__gte=first, offset__lte=last - F("size")
        ).delete()


def store_live_output(state: int, token: str, run: int, taken: Taken, now: datetime) -> bool:
    """The same for a run that goes on; False, and nothing is written, where it is not ours."""
    mine = JobState.objects.filter(pk=state, lease_token=token)
    if not mine.update(progress_at=F("progress_at")):  # a write, so that the row stays as it is
        return False
    store_output(run, taken, now)
    return True


def _statements(pieces: Iterable[Piece]) -> Iterable[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        if len(piece.text) > _LARGE_CHARACTERS:
            # By itself: several rows go to PostgreSQL as arrays, each character looked at twice.
            yield from ([batch] if batch else [])
            yield [piece]
            batch, size = [], 0
            continue
        if batch and size + len(piece.text) > _STATEMENT_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece.text)
    if batch:
        yield batch


def store_progress(state: int, token: str, parts: tuple[int, int], now: datetime) -> bool:
    """Write how far a run is; False where it is not ours any more."""
    total, done = parts
    changed = JobState.objects.filter(pk=state, lease_token=token).update(
        parts_total=total or None, parts_done=done, progress_at=now
    )
    return bool(changed)


def prune_runs(job: Job, keep: int) -> int:
    """Delete the ended runs of a job beyond the newest ``keep``, in batches; how many."""
    newest_gone = (
        Run.objects.filter(job=job).order_by("-id").values_list("pk", flat=True)[keep : keep + 1]
    )
    last = next(iter(newest_gone), None)
    return delete_runs(Run.objects.ended().filter(job=job, pk__lte=last)) if last else 0


def delete_runs(runs: Any) -> int:
    """Delete runs and their output in small transactions, so that nothing waits for it."""
    deleted = 0
    while keys := list(runs.order_by("pk").values_list("pk", flat=True)[:_DELETE_BATCH]):
        _forget(keys)
        OutputChunk.objects.filter(run__in=keys).delete()
        Run.objects.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted


def _forget(runs: list[int]) -> None:
    """Let go of runs that are to be deleted, as SET_NULL would, but one statement at a time.

    In the transaction that deletes them, a state whose next run is running would stay locked, and
    so would an incident that this run's end may have to write.
    """
    for relation in Run._meta.get_fields(include_hidden=True):  # hidden: related_name="+"
        if isinstance(relation, ForeignObjectRel) and relation.on_delete is SET_NULL:
            name = relation.field.name
            pointing = relation.related_model._base_manager.filter(**{f"{name}__in": runs})
            pointing.update(**{name: None})
