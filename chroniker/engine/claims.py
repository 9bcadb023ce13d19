"""Claims: each due job gets one owner, even if others claim at the same moment."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Exists, F, Max, OuterRef

from chroniker.alerting import incidents
from chroniker.conf import conf
from chroniker.db.alias import database
from chroniker.db.clock import database_now_plus
from chroniker.db.histograms import add_observation
from chroniker.enums import BlockedReason, IncidentKind, MissedReason, RunStatus, Trigger
from chroniker.exceptions import ScheduleError
from chroniker.models import Host, Job, JobDependency, JobState, Run
from chroniker.models.state import WITHDRAWN_RESTART, JobStateQuerySet

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
    at_capacity: bool = False
    """Whether the host can start no more now, so that some may have been left."""


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
    result = ClaimResult()
    if Host.objects.lock_for_claim(options.host):
        capacity = options.max_parallel - JobState.objects.leased_on(options.host).count()
        if capacity > 0:
            capacity -= _stamp_token(options, horizon, now, token, capacity, force=force)
        result.at_capacity = capacity <= 0
    owned = (
        JobState.objects.owned_by([token])
        .select_related("job")
        .annotate(has_downstream=Exists(JobDependency.objects.filter(upstream=OuterRef("job"))))
        .order_by("-job__priority", "pk")
    )
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
    if database().features.can_return_rows_from_bulk_insert:
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


def locked_states(keys: list[int]) -> set[int]:
    """The states that another transaction has locked, or whose jobs it has locked."""
    jobs = dict(JobState.objects.filter(pk__in=keys).values_list("pk", "job"))
    locked = Job.objects.lock(set(jobs.values()))
    return JobState.objects.lock(keys) | {key for key, job in jobs.items() if job in locked}


def block_state(state: int, reason: BlockedReason, detail: str) -> None:
    """Take a state out of the queue until its definition is changed, and store why."""
    JobState.objects.filter(pk=state, lease_token__isnull=True).update(
        next_slot_at=None,
        next_run_at=None,
        retry_at=None,
        run_requested_at=None,
        run_requested_by="",
        **WITHDRAWN_RESTART,
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
) -> int:
    """Put the token on up to ``capacity`` states, and return on how many.

    The update's own conditions decide.
    """
    candidates = _claimable(options, horizon, now, force=force)
    if _lock_rows():
        candidates = candidates.select_for_update(
            skip_locked=True,
            of=("self",) if database().features.has_select_for_update_of else (),
        )
    waits = Exists(JobDependency.objects.filter(downstream=OuterRef("job")))
    found = list(candidates.annotate(waits=waits).values_list("pk", "waits")[:capacity])
    keys = [key for key, _ in found]
    waiting = [key for key, waits_for_others in found if waits_for_others]
    if waiting and not force and _lock_rows():
        keys = _lock_upstreams(keys)
        keys = list(
            JobState.objects.filter(pk__in=keys).unblocked(horizon).values_list("pk", flat=True)
        )
    if not keys:
        return 0
    free = JobState.objects.all() if force else JobState.objects.due(horizon)
    return free.filter(pk__in=keys, lease_token__isnull=True).update(
        lease_token=token,
        fence=F("fence") + 1,
        lease_host=options.host,
        lease_owner=options.owner,
        lease_expires_at=database_now_plus(conf.LEASE_SECONDS),
        stop_requested_at=None,
        blocked_reason="",
        blocked_detail="",
    )


def _lock_rows() -> bool:
    wanted = conf.SELECT_FOR_UPDATE
    can = database().features.has_select_for_update_skip_locked
    return can if wanted is None else wanted and can


def _lock_upstreams(keys: list[int]) -> list[int]:
    """Lock the states of what the candidates ``keys`` wait for until the claim is committed.

    Returns the candidates without those that wait for a state that another transaction has locked.
    """
    edges = list(
        JobDependency.objects.filter(
            downstream__states__in=keys, upstream__states__isnull=False
        ).values_list("downstream__states", "upstream__states")
    )
    locked = JobState.objects.lock({upstream for _, upstream in edges})
    blocked = {downstream for downstream, upstream in edges if upstream in locked}
    return [key for key in keys if key not in blocked]


def _open_run(state: JobState, now: datetime, host: str, *, force: bool) -> _OpenedRun:
    """Decide what this owned state runs, and compute its next run."""
    new = _OpenedRun(state)
    slot: datetime | None
    attempt = 1
    restarted = False
    requested = state.run_requested_by or Trigger.MANUAL
    if force or (state.run_requested_at is not None and requested == Trigger.MANUAL):
        trigger = Trigger.MANUAL
        slot = now if force else state.run_requested_at
        new.changes.update(run_requested_at=None, run_requested_by="")
    elif _restart_is_due(new, now):
        trigger, attempt = Trigger(state.restart_trigger), state.restart_attempt
        slot = state.restart_slot_at
        restarted = True
    elif state.run_requested_at is not None:
        trigger, slot = Trigger(requested), state.run_requested_at
        new.changes.update(run_requested_at=None, run_requested_by="")
    elif new.changes and not (state.due_without_restart and state.due_without_restart <= now):
        return new  # nothing but the restart was due, and it was withdrawn
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
    if trigger == Trigger.SCHEDULE and not restarted:
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


def _restart_is_due(new: _OpenedRun, now: datetime) -> bool:
    """Whether an interrupted run is started again; ``new`` gets the changes, whatever the answer.

    It is withdrawn if the job was disabled meanwhile, unless a person requested the run, and if
    it could not start within the start deadline: then its slot counts as missed.
    """
    state, job = new.state, new.state.job
    if state.restart_at is None or state.restart_slot_at is None:
        return False
    new.changes.update(WITHDRAWN_RESTART)
    if state.restart_trigger == Trigger.MANUAL:
        return True
    if not job.enabled:
        return False
    deadline = job.start_deadline_seconds
    if deadline is None or (now - state.restart_at).total_seconds() <= deadline:
        return True
    _record_missed(new, MissedSlots(state.restart_slot_at, 1, MissedReason.DEADLINE), now)
    return False


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
        _record_missed(new, group, now)
    return decision.slot


def _record_missed(new: _OpenedRun, group: MissedSlots, now: datetime) -> None:
    """Count missed slots; ``new`` gets their row, unless there is one."""
    state = new.state
    counter = f"missed_{group.reason.value}"
    new.changes[counter] = new.changes.get(counter, F(counter)) + group.count  # type: ignore[operator]
    known = Run.objects.filter(
        job=state.job, host=state.host, scheduled_for=group.first, attempt=0
    ).update(missed_slots=F("missed_slots") + group.count)
    if not known:  # known: the clock was set back, and the slot was missed before
        new.missed.append(_missed_run(state, group, now))


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
