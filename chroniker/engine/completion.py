"""The end of a run in the database: written once, by its owner, and counted with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import F, Q

from chroniker.alerting import incidents, notifications
from chroniker.alerting.failing import evaluate_failures
from chroniker.batches import Payload
from chroniker.db.alias import database, database_alias
from chroniker.db.clock import StatementNow
from chroniker.db.histograms import add_observation
from chroniker.db.notifications import notify_due
from chroniker.enums import FAILURE_REASONS, IncidentKind, RunStatus, Trigger
from chroniker.models import Job, JobDependency, JobState, Run
from chroniker.models.state import JobStateQuerySet
from chroniker.processes.output import OutputBatch
from chroniker.processes.running_child import Outcome

from .output_store import store_output

_MAX_RETRY_DELAY = timedelta(days=3650)
_BROKEN = frozenset({RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.LOST})
"""The endings that are retried and open incidents."""

UNOWNED: dict[str, object] = {
    "lease_token": None,
    "lease_expires_at": None,
    "lease_host": "",
    "lease_owner": "",
    "current_run": None,
}
"""The lease columns of a state without an owner."""


@dataclass(slots=True)
class FinishedRun:
    """A run that has ended, and everything to record about it."""

    state: JobState
    job: Job
    run: Run
    token: str
    outcome: Outcome
    ended_at: datetime
    has_downstream: bool
    output: OutputBatch = field(default_factory=OutputBatch)
    written: dict[str, int] = field(default_factory=dict)
    parts: tuple[int, int] | None = None
    pid: int | None = None
    rejections: int = 0
    """How many times the database has rejected this end."""
    run_deleted: bool = False
    """The row of the run was deleted while it ran."""
    batch: str = ""
    """The runner that records what it gave, with its end; empty for a run of its own process."""
    payload: Payload | None = None
    """What it gave to that runner."""
    unrecorded_reason: str = ""
    """Why its end could not be recorded: a sentence."""

    def updated_run(self) -> Run:
        """The run as its row was written."""
        run, outcome = self.run, self.outcome
        run.status = outcome.status
        run.ended_at = self.ended_at
        run.duration_seconds = outcome.seconds
        run.exit_code = outcome.exit_code
        run.signal = outcome.signal
        run.error = outcome.error
        return run


def end_run(ended: FinishedRun, *, only_if_stale: bool = False) -> bool:
    """Write the end of a run, fenced by its token; False if the token no longer owns the state.

    Call it in a transaction. After False, nothing else of the run may be written.
    ``only_if_stale``: the caller is not the owner and takes away a lease that has run out.
    """
    mine = JobState.objects.filter(pk=ended.state.pk, lease_token=ended.token)
    if only_if_stale:
        mine = mine.filter(lease_expires_at__lt=StatementNow())
    if not mine.update(**state_changes(ended)):
        return False
    Run.objects.running().filter(pk=ended.run.pk).update(**run_changes(ended))
    write_consequences(ended)
    return True


def write_consequences(ended: FinishedRun) -> None:
    """Write what follows from an end that was written: output, downstream runs, incidents."""
    store_output(ended.run.pk, ended.output, ended.ended_at)
    if ended.has_downstream and not _restarts(ended):
        _trigger_downstreams(ended)
        notify_due(database_alias())  # other hosts may run what waited for it
    _update_incidents(ended)


def run_changes(ended: FinishedRun) -> dict[str, object]:
    """The columns of the run that its end changes."""
    outcome = ended.outcome
    return {
        "status": outcome.status,
        "ended_at": ended.ended_at,
        "duration_seconds": outcome.seconds,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "error": outcome.error,
        "cpu_seconds": outcome.cpu_seconds,
        "max_rss_bytes": outcome.max_rss_bytes,
        **_parts(ended.parts),
        **{f"{stream}_bytes": size for stream, size in ended.written.items()},
        **({"pid": ended.pid} if ended.pid else {}),
        **({"traceparent": ended.run.traceparent} if ended.run.traceparent else {}),
    }


def end_unlocked_runs(
    waiting: Sequence[FinishedRun], *, only_if_stale: bool = False
) -> list[bool | None]:
    """:func:`end_run` for each run; None for one that must wait for another transaction's lock.

    Such a lock may be held for minutes. Nothing of that run is written, and the others do not wait.
    """
    if not database().features.has_select_for_update_skip_locked:
        return [end_run(ended, only_if_stale=only_if_stale) for ended in waiting]
    states = {ended.state.pk: {ended.state.pk} for ended in waiting}
    for ended in waiting:
        if ended.has_downstream:
            states[ended.state.pk].update(_downstream_states(ended).values_list("pk", flat=True))
    locked = JobState.objects.lock(set().union(*states.values()))
    return [
        None if locked & states[ended.state.pk] else end_run(ended, only_if_stale=only_if_stale)
        for ended in waiting
    ]


def release(ended: FinishedRun) -> None:
    """Release a state whose run's end cannot be written, and end the run as lost if possible."""
    mine = Run.objects.running().filter(pk=ended.run.pk, current_state__lease_token=ended.token)
    with contextlib.suppress(DatabaseError):  # adopt_orphan() finds a run that stays running
        mine.update(status=RunStatus.LOST, ended_at=ended.ended_at, error=ended.outcome.error[:500])
    JobState.objects.filter(pk=ended.state.pk, lease_token=ended.token).update(**UNOWNED)


def is_recorded(ended: FinishedRun) -> bool:
    """Whether the end was recorded earlier, by a commit whose reply was lost."""
    return Run.objects.filter(
        pk=ended.run.pk, status=ended.outcome.status, ended_at=ended.ended_at
    ).exists()


def add_to(name: str, number: float) -> object:
    """The new value of a counter, for ``update()``."""
    return F(name) + number


def state_changes(
    ended: FinishedRun, add: Callable[[str, float], object] = add_to
) -> dict[str, object]:
    """The columns of the state that the end of its run changes; ``add`` increases a counter."""
    outcome, state, job = ended.outcome, ended.state, ended.job
    facts: dict[str, object] = {
        **UNOWNED,
        "stop_requested_at": None,
        "last_run": None if ended.run_deleted else ended.run,
        "last_status": outcome.status,
        "last_ended_at": ended.ended_at,
        "last_error": outcome.error[:500],
        "runs_total": add("runs_total", 1),
        **_parts(ended.parts),
    }
    if ended.run.trace_id or state.last_trace_id:
        facts["last_trace_id"] = ended.run.trace_id
    if outcome.status == RunStatus.INTERRUPTED:
        facts["interrupted_total"] = add("interrupted_total", 1)
        if _restarts(ended):
            facts.update(
                restart_at=ended.ended_at,
                restart_slot_at=ended.run.scheduled_for,
                restart_attempt=ended.run.attempt + 1,
                restart_trigger=ended.run.trigger,
            )
    elif outcome.status == RunStatus.SUCCEEDED:
        facts.update(last_success_at=ended.ended_at, consecutive_failures=0, failing_incident=False)
    else:
        counter = f"failures_{FAILURE_REASONS[outcome.status].value}"
        facts.update({"last_failure_at": ended.ended_at, counter: add(counter, 1)})
        if outcome.status in _BROKEN:
            retry = _retry(ended.run, job, ended.ended_at)
            facts.update(retry)
            if not retry or job.count_attempts:
                facts["consecutive_failures"] = add("consecutive_failures", 1)
    if outcome.seconds is not None:
        facts.update(
            last_duration_seconds=outcome.seconds,
            duration_seconds_sum=add("duration_seconds_sum", outcome.seconds),
            duration_count=add("duration_count", 1),
            # Read when the state was claimed; only the owner of the lease writes it.
            duration_buckets=add_observation(state.duration_buckets, outcome.seconds),
        )
    if outcome.cpu_seconds is not None:
        facts["cpu_seconds_total"] = add("cpu_seconds_total", outcome.cpu_seconds)
        facts["last_max_rss_bytes"] = outcome.max_rss_bytes
    return facts


def _restarts(ended: FinishedRun) -> bool:
    """Whether the slot is due again because its run was interrupted."""
    return ended.outcome.status == RunStatus.INTERRUPTED and ended.job.restart_interrupted


def _update_incidents(ended: FinishedRun) -> None:
    """Update incidents and notifications, in the transaction that ends the run."""
    outcome, state, job = ended.outcome, ended.state, ended.job
    run, now = None if ended.run_deleted else ended.run, ended.ended_at
    if outcome.status == RunStatus.SUCCEEDED:
        # Without a failure before this run there is no incident to look for.
        if state.failing_incident or state.consecutive_failures:
            incidents.resolve(
                job, state.host, IncidentKind.FAILING, "A run succeeded.", now, run=run
            )
        if job.email_on_success and run is not None:
            notifications.notify_success(job, run, now)
    elif outcome.status in _BROKEN:
        error = outcome.error or f"The run {outcome.status}."
        evaluate_failures(state.pk, error, now, run=run)


def _parts(parts: tuple[int, int] | None) -> dict[str, int | None]:
    if parts is None:
        return {}
    total, done = parts
    return {"parts_total": total or None, "parts_done": done}


def _retry(run: Run, job: Job, ended_at: datetime) -> dict[str, object]:
    """When the next attempt starts, if the job has retries left; the delay doubles each time."""
    if run.trigger == Trigger.MANUAL or not job.max_retries:
        return {}
    retries = run.attempt - 1
    if retries:  # of these, some may have followed an interruption, which spends no retry
        retries -= Run.objects.filter(
            job=job,
            host=run.host,
            scheduled_for=run.scheduled_for,
            status=RunStatus.INTERRUPTED,
        ).count()
    if retries >= job.max_retries:
        return {}
    seconds = job.retry_delay_seconds * 2 ** min(retries, 20)
    delay = timedelta(seconds=min(seconds, _MAX_RETRY_DELAY.total_seconds()))
    return {
        "retry_at": ended_at + delay,
        "retry_slot_at": run.scheduled_for,
        "retry_attempt": run.attempt + 1,
    }


def _trigger_downstreams(ended: FinishedRun) -> None:
    """Request a run of the jobs that have no schedule and wait for this one."""
    # The upstream's own slot has come, so the tick that runs the chain continues with it.
    _downstream_states(ended).update(
        run_requested_at=ended.run.scheduled_for, run_requested_by=Trigger.DEPENDENCY
    )


def _downstream_states(ended: FinishedRun) -> JobStateQuerySet:
    """The states of the jobs whose run this end requests."""
    waiting = JobDependency.objects.filter(
        upstream=ended.job, downstream__enabled=True, downstream__schedule=""
    )
    if ended.outcome.status != RunStatus.SUCCEEDED:
        waiting = waiting.filter(wait_for_success=False)
    downstreams = list(waiting.values_list("downstream", flat=True))
    if not downstreams:
        return JobState.objects.none()
    states = JobState.objects.current().filter(job__in=downstreams, run_requested_at__isnull=True)
    if ended.state.host:
        states = states.filter(Q(host="") | Q(host=ended.state.host))
    return states
