"""Claims: each due job gets one owner, even if others claim at the same moment."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection
from django.db.models import Exists, F, Max, OuterRef

from chroniker.alerting import incidents
from chroniker.conf import conf
from chroniker.db.clock import database_now_plus
from chroniker.db.histograms import add_observation
from chroniker.enums import BlockedReason, IncidentKind, RunStatus, Trigger
from chroniker.exceptions import ScheduleError
from chroniker.models import Host, Job, JobDependency, JobState, Run
from chroniker.models.state import JobStateQuerySet

from .planning import MissedSlots, decide_slots, start_time


@dataclass(slots=True)
class ClaimedRun:
    """A run that this process owns while the token in the database is its token."""

    state: JobState
    job: Job
    run: Run
    token: str
    has_downstream: bool
    claimed_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class ClaimResult:
    """The runs that a claim started, and the slots that it found missed."""

    started: list[ClaimedRun] = field(default_factory=list)
    missed: list[Run] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ClaimOptions:
    """Who claims, and within which limits."""

    host: str
    owner: str
    max_parallel: int
    only: frozenset[int] | None = None
    """Primary keys of jobs; None: all."""
    only_states: frozenset[int] | None = None
    """Primary keys of states; None: all."""


def new_token() -> str:
    """A unique lease token."""
    return secrets.token_hex(16)


def claim(
    options: ClaimOptions, horizon: datetime, now: datetime, token: str, *, force: bool = False
) -> ClaimResult:
    """Claim what was due at ``horizon`` and create the runs, which start ``now``.

    Call it in a transaction. The first statement is a write, so that SQLite takes its lock at
    once, and a write of the host's row, so that the ticks of one host count their capacity one
    after the other. ``force`` takes the jobs of ``options.only`` whether they are due or not.

    It is safe to repeat the call with the same token when it is not known whether the transaction
    was committed: the states that carry the token are owned by it.
    """
    if Host.objects.lock_for_claim(options.host):
        capacity = options.max_parallel - JobState.objects.leased_on(options.host).count()
        if capacity > 0:
            _stamp_token(options, horizon, now, token, capacity, force=force)
    owned = (
        JobState.objects.owned_by([token])
        .select_related("job")
        .annotate(has_downstream=Exists(JobDependency.objects.filter(upstream=OuterRef("job"))))
        .order_by("-job__priority", "pk")
    )
    result = ClaimResult()
    opened: list[_OpenedRun] = []
    for state in owned:
        if state.current_run_id is not None:  # committed earlier, but the reply was lost
            assert state.current_run is not None
            result.started.append(_claimed_run(state, state.current_run, token))
            JobState.objects.renew([token], conf.LEASE_SECONDS)  # the lease began then, not now
            continue
        new = _open_run(state, now, options.host, force=force)
        result.missed += new.missed
        if new.run is None:
            _release_state(state, new.changes)
        else:
            opened.append(new)
    _insert_runs([run for new in opened if (run := new.run)] + result.missed)
    for new in opened:
        assert new.run is not None
        if new.state.overdue_incident:
            new.changes["overdue_incident"] = False
            incidents.resolve(
                new.state.job, new.state.host, IncidentKind.OVERDUE, "A run started.", now,
                run=new.run,
            )  # fmt: skip
        JobState.objects.filter(pk=new.state.pk, lease_token=token).update(
            current_run=new.run, **new.changes
        )
        result.started.append(_claimed_run(new.state, new.run, token))
    return result


@dataclass(slots=True)
class _OpenedRun:
    """What an owned state runs, and the changes to write to it."""

    state: JobState
    run: Run | None = None
    changes: dict[str, object] = field(default_factory=dict)
    missed: list[Run] = field(default_factory=list)


def _release_state(state: JobState, changes: dict[str, object]) -> None:
    """Release a state for which there was nothing to run after all."""
    changes.update(lease_token=None, lease_expires_at=None, lease_host="", lease_owner="")
    JobState.objects.filter(pk=state.pk).update(**changes)


def _claimed_run(state: JobState, run: Run, token: str) -> ClaimedRun:
    has_downstream: bool = state.has_downstream  # type: ignore[attr-defined]  # annotated
    return ClaimedRun(state, state.job, run, token, has_downstream)


def _insert_runs(runs: list[Run]) -> None:
    if connection.features.can_return_rows_from_bulk_insert:
        Run.objects.bulk_create(runs)
        return
    for run in runs:
        run.save(force_insert=True)


def _claimable(
    options: ClaimOptions, horizon: datetime, now: datetime, *, force: bool
) -> JobStateQuerySet:
    """What a claim at ``now`` would take of what was due at ``horizon``, in this order.

    Jobs that a maintenance window pauses are never included, even if a person requests a run.
    """
    wanted = JobState.objects.for_host(options.host).unpaused(now)
    if options.only is not None:
        wanted = wanted.filter(job__in=options.only)
    if options.only_states is not None:
        wanted = wanted.filter(pk__in=options.only_states)
    if force:
        free = wanted.filter(lease_token__isnull=True)
    else:
        free = wanted.due(horizon).unblocked(horizon)
    return free.order_by("-job__priority", "due_at", "pk")


def due_state_ids(options: ClaimOptions, now: datetime) -> list[int]:
    """Primary keys of the states that would be claimed now."""
    wanted = _claimable(options, now, now, force=options.only is not None)
    return list(wanted.values_list("pk", flat=True)[: options.max_parallel])


def block_state(state: int, reason: BlockedReason, detail: str) -> None:
    """Take a state out of the queue until its definition is changed, and store why."""
    JobState.objects.filter(pk=state, lease_token__isnull=True).update(
        next_slot_at=None,
        next_run_at=None,
        retry_at=None,
        run_requested_at=None,
        run_requested_by="",
        blocked_reason=reason,
        blocked_detail=detail[:500],
    )


def _stamp_token(
    options: ClaimOptions,
    horizon: datetime,
    now: datetime,
    token: str,
    capacity: int,
    *,
    force: bool,
) -> None:
    """Put the token on up to ``capacity`` states; the update's own conditions decide."""
    candidates = _claimable(options, horizon, now, force=force)
    if _lock_rows():
        candidates = candidates.select_for_update(
            skip_locked=True,
            of=("self",) if connection.features.has_select_for_update_of else (),
        )
    waits = Exists(JobDependency.objects.filter(downstream=OuterRef("job")))
    found = list(candidates.annotate(waits=waits).values_list("pk", "waits")[:capacity])
    keys = [key for key, _ in found]
    waiting = [key for key, waits_for_others in found if waits_for_others]
    if waiting and not force and _lock_upstreams(waiting):
        keys = list(
            JobState.objects.filter(pk__in=keys).unblocked(horizon).values_list("pk", flat=True)
        )
    if not keys:
        return
    free = JobState.objects.all() if force else JobState.objects.due(horizon)
    free.filter(pk__in=keys, lease_token__isnull=True).update(
        lease_token=token,
        lease_host=options.host,
        lease_owner=options.owner,
        lease_expires_at=database_now_plus(conf.LEASE_SECONDS),
        stop_requested_at=None,
        blocked_reason="",
        blocked_detail="",
    )


def _lock_rows() -> bool:
    wanted = conf.SELECT_FOR_UPDATE
    can = connection.features.has_select_for_update_skip_locked
    return can if wanted is None else wanted and can


def _lock_upstreams(keys: list[int]) -> bool:
    """Lock the states of upstream jobs until the commit; return whether there are any."""
    waiting = JobDependency.objects.filter(downstream__states__in=keys)
    if not _lock_rows():
        return False
    upstreams = list(waiting.values_list("upstream", flat=True).distinct())
    if upstreams:
        states = JobState.objects.filter(job__in=upstreams).order_by("pk")
        list(states.select_for_update().values_list("pk", flat=True))
    return bool(upstreams)


def _open_run(state: JobState, now: datetime, host: str, *, force: bool) -> _OpenedRun:
    """Decide what this owned state runs, and compute its next run."""
    new = _OpenedRun(state)
    slot: datetime | None
    attempt = 1
    if force or state.run_requested_at is not None:
        trigger = Trigger.MANUAL if force else Trigger(state.run_requested_by or Trigger.MANUAL)
        slot = now if force else state.run_requested_at
        new.changes.update(run_requested_at=None, run_requested_by="")
    elif _retry_is_due(state, now):
        trigger, attempt = Trigger.RETRY, state.retry_attempt
        slot = state.retry_slot_at if state.job.enabled else None
        new.changes.update(retry_at=None, retry_slot_at=None, retries_total=F("retries_total") + 1)
    else:
        trigger = Trigger.SCHEDULE
        slot = _take_scheduled_slot(new, now)
    if slot is None:
        return new
    if state.last_started_at and slot <= state.last_started_at:
        # The same slot again: a retry, a second request, or the clock was set back.
        attempt = max(attempt, _next_attempt(state, slot))
    if slot == state.retry_slot_at:
        new.changes.update(retry_at=None, retry_slot_at=None)
    if trigger == Trigger.SCHEDULE:
        lag = max(0.0, (now - start_time(state.job, slot)).total_seconds())
        new.changes.update(
            start_lag_seconds_sum=F("start_lag_seconds_sum") + lag,
            start_lag_count=F("start_lag_count") + 1,
            start_lag_buckets=add_observation(state.start_lag_buckets, lag),
        )
    new.changes.update(last_started_at=now, parts_done=None, parts_total=None, progress_at=None)
    new.run = Run(
        job=state.job,
        host=state.host,
        ran_on=host,
        scheduled_for=slot,
        attempt=attempt,
        trigger=trigger,
        status=RunStatus.RUNNING,
        started_at=now,
    )
    return new


def _retry_is_due(state: JobState, now: datetime) -> bool:
    """Whether the retry comes before the next slot; a slot that is due supersedes it."""
    if state.retry_at is None or state.retry_at > now:
        return False
    return state.next_run_at is None or state.next_run_at > now


def _next_attempt(state: JobState, slot: datetime) -> int:
    """1, or one more than the last attempt at the same slot."""
    last = Run.objects.filter(job_id=state.job_id, host=state.host, scheduled_for=slot).aggregate(
        last=Max("attempt")
    )["last"]
    return (last or 0) + 1


def _take_scheduled_slot(new: _OpenedRun, now: datetime) -> datetime | None:
    """The slot to run; ``new`` gets the next slot, and the rows and counters of missed slots."""
    state, changes = new.state, new.changes
    job = state.job
    if state.next_slot_at is None:
        return None
    try:
        decision = decide_slots(
            job, job.parsed_schedule(), state.next_slot_at, now, state.last_ended_at
        )
    except ScheduleError as error:  # the definition has just been changed
        changes.update(
            next_slot_at=None,
            next_run_at=None,
            blocked_reason=BlockedReason.SCHEDULE,
            blocked_detail=str(error)[:500],
        )
        return None
    changes.update(
        next_slot_at=decision.next_slot,
        next_run_at=decision.next_slot and start_time(job, decision.next_slot),
        retry_at=None,
        retry_slot_at=None,
    )
    for group in decision.missed:
        counter = f"missed_{group.reason.value}"
        changes[counter] = F(counter) + group.count
        known = Run.objects.filter(
            job=job, host=state.host, scheduled_for=group.first, attempt=0
        ).update(missed_slots=F("missed_slots") + group.count)
        if not known:  # known: the clock was set back, and the slot was missed before
            new.missed.append(_missed_run(state, group, now))
    return decision.slot


def _missed_run(state: JobState, group: MissedSlots, now: datetime) -> Run:
    return Run(
        job=state.job,
        host=state.host,
        scheduled_for=group.first,
        attempt=0,  # no attempt was made
        trigger=Trigger.SCHEDULE,
        status=RunStatus.MISSED,
        ended_at=now,
        missed_slots=group.count,
        missed_reason=group.reason,
    )
