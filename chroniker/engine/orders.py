"""Orders in the database: what a run goes through between its claim and a worker.

A claim of a remote run marks its state as queued, with a token that is valid once. It is over when
a worker takes the run, which replaces the token, or when it is withdrawn, which makes the slot due
again. Each is one conditional update, so of several at the same moment one succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, F, OuterRef

from chroniker.alerting import incidents
from chroniker.conf import conf
from chroniker.db.clock import DatabaseNow, StatementNow, database_now_plus
from chroniker.db.histograms import add_observation
from chroniker.enums import BlockedReason, IncidentKind, Trigger
from chroniker.executors.base import RunOrder
from chroniker.models import JobDependency, JobState, Run
from chroniker.models.state import JobStateQuerySet

from .claims import ClaimedRun
from .completion import UNOWNED
from .planning import start_time


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes a run: a process of a worker."""

    worker: str
    """The name of the worker."""
    owner: str
    """The name under which the process owns leases."""


def order_of(item: ClaimedRun) -> RunOrder:
    """The order for a run that was claimed for a remote executor."""
    return RunOrder(item.run.pk, item.token, item.state.fence, item.job.effective_queue)


def _queued(order: RunOrder) -> JobStateQuerySet:
    return JobState.objects.queued().filter(
        lease_token=order.token, fence=order.fence, current_run=order.run
    )


def take(order: RunOrder, token: str, taker: Taker) -> tuple[ClaimedRun, datetime] | None:
    """Become the owner of a run, with a new token; None if the order is not valid any more.

    Also returns the database's time. Call it in a transaction. It is safe to repeat the call with
    the same token when it is not known whether the transaction was committed.
    """
    taken = _queued(order).update(
        lease_token=token,
        lease_host=taker.worker,
        lease_owner=taker.owner,
        lease_expires_at=database_now_plus(conf.LEASE_SECONDS),
        blocked_reason="",
        blocked_detail="",
    )
    state = (
        JobState.objects.owned_by([token])
        .select_related("job", "current_run")
        .annotate(
            has_downstream=Exists(JobDependency.objects.filter(upstream=OuterRef("job"))),
            clock=DatabaseNow(),
        )
        .first()
    )
    if state is None or state.current_run is None:
        return None
    run = state.current_run
    now: datetime = state.clock  # type: ignore[attr-defined]  # annotated
    has_downstream: bool = state.has_downstream  # type: ignore[attr-defined]  # annotated
    if taken:
        _record_start(state, run, taker.worker, now)
    run.job = state.job
    return ClaimedRun(state, state.job, run, token, has_downstream), now


def _record_start(state: JobState, run: Run, worker: str, now: datetime) -> None:
    run.started_at, run.ran_on = now, worker
    Run.objects.running().filter(pk=run.pk).update(started_at=now, ran_on=worker)
    changes: dict[str, object] = {"last_started_at": now}
    if run.trigger == Trigger.SCHEDULE and run.attempt == 1:
        lag = max(0.0, (now - start_time(state.job, run.scheduled_for)).total_seconds())
        changes.update(
            start_lag_seconds_sum=F("start_lag_seconds_sum") + lag,
            start_lag_count=F("start_lag_count") + 1,
            start_lag_buckets=add_observation(state.start_lag_buckets, lag),
        )
    if state.overdue_incident:
        changes["overdue_incident"] = False
        for kind in (IncidentKind.OVERDUE, IncidentKind.BLOCKED):
            incidents.resolve(state.job, state.host, kind, "A run started.", now, run=run)
    JobState.objects.filter(pk=state.pk).update(**changes)


def withdraw(order: RunOrder, detail: str) -> bool:
    """Make the slot due again, because no worker can take the run; False if it is not queued.

    The row of the run is deleted: nothing has happened. Call it in a transaction.
    """
    if not _queued(order).update(fence=F("fence")):  # a write, so that the row is locked
        return False
    state = _queued(order).select_related("job", "current_run").first()
    if state is None or state.current_run is None:
        return False
    changes = {
        **UNOWNED,
        **_due_again(state, state.current_run),
        "blocked_reason": BlockedReason.QUEUE,
        "blocked_detail": detail[:500],
        "stop_requested_at": None,
    }
    _queued(order).update(**changes)
    Run.objects.running().filter(pk=order.run).delete()
    return True


def _due_again(state: JobState, run: Run) -> dict[str, object]:
    """The columns that make the slot of a withdrawn run due, as it was before its claim."""
    if run.trigger == Trigger.MANUAL:
        if state.run_requested_at is not None:
            return {}  # requested again meanwhile
        return {
            "run_requested_at": run.scheduled_for,
            "run_requested_by": Trigger.MANUAL,
            "run_requested_args": run.args,
        }
    due = start_time(state.job, run.scheduled_for)
    return {
        "restart_at": due if run.trigger == Trigger.SCHEDULE else run.started_at,
        "restart_slot_at": run.scheduled_for,
        "restart_attempt": run.attempt,
        "restart_trigger": run.trigger,
    }


def postpone(order: RunOrder, seconds: float) -> bool:
    """Let an order wait for ``seconds`` from now; False if it is not queued, or not overdue.

    Of several schedulers that want to publish it again, one gets True.
    """
    overdue = _queued(order).filter(lease_expires_at__lt=StatementNow())
    return bool(overdue.update(lease_expires_at=database_now_plus(seconds)))
