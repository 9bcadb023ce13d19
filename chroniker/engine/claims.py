"""Claims: each due job gets one owner, even if others claim at the same moment."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Exists, F, OuterRef

from chroniker.alerting import incidents
from chroniker.alerting.blocked import open_stuck
from chroniker.alerting.failing import evaluate_failures
from chroniker.conf import LOCAL, conf
from chroniker.db.alias import database
from chroniker.db.bulk import update_rows
from chroniker.db.histograms import add_observation
from chroniker.enums import BlockedReason, IncidentKind, MissedReason, RunStatus, Trigger
from chroniker.exceptions import ScheduleError
from chroniker.models import Host, Job, JobDependency, JobState, Maintenance, Run
from chroniker.models.state import WITHDRAWN_RESTART

from .candidates import ALONE, ClaimOptions, order_token, shareable_batches, stamp_token
from .planning import MissedSlots, SlotDecision, decide_slots, start_time


@dataclass(slots=True)
class ClaimedRun:
    """A run that this process owns while the token in the database is its token."""

    state: JobState
    job: Job
    run: Run
    token: str
    has_downstream: bool
    executor: str = LOCAL
    """``local``, or the remote executor that carries it to a worker."""
    batch: str = ""
    """The runner that executes it together with others; empty: it has its own process."""
    claimed_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class ClaimResult:
    """The runs that a claim started, and the slots that it found missed."""

    started: list[ClaimedRun] = field(default_factory=list)
    missed: list[Run] = field(default_factory=list)
    at_capacity: bool = False
    """Whether the host can start no more now, so that some may have been left."""


def new_token(*, force: bool = False) -> str:
    """A unique lease token; ``force``: of a claim that takes jobs whether they are due or not."""
    return ALONE + secrets.token_hex(14) if force else secrets.token_hex(16)


def claim(
    options: ClaimOptions, horizon: datetime, now: datetime, token: str, *, force: bool = False
) -> ClaimResult:
    """Claim what was due at ``horizon`` and create the runs, which start ``now``.

    Call it in a transaction. The first statement is a write, so that SQLite takes its lock at
    once, and a write of the host's row, so that the ticks of one host count their capacity one
    after the other. ``force`` takes the jobs of ``options.only`` whether they are due or not; none
    of them shares a process, and its ``token`` says so.

    It is safe to repeat the call with the same token when it is not known whether the transaction
    was committed: the states that carry the token are owned by it.
    """
    result = ClaimResult()
    if Host.objects.lock_for_claim(options.host):
        result.at_capacity = stamp_token(options, horizon, now, token, force=force)
    owned = (
        JobState.objects.owned_by([token, order_token(token)])
        .select_related("job")
        .annotate(has_downstream=Exists(JobDependency.objects.filter(upstream=OuterRef("job"))))
        .order_by("-job__priority", "pk")
    )
    opened: list[_OpenedRun] = []
    known = _read_known_runs(list(owned), token)
    for state in owned:
        if state.current_run_id is not None:
            known_run = state.current_run = known[state.current_run_id]
            result.started.append(_claimed_run(state, known_run, force=force))
            continue
        new = _open_run(state, now, options.host, force=force)
        new.changes = {"blocked_reason": "", "blocked_detail": ""} | new.changes
        result.missed += new.missed
        if new.run is None:
            _release_state(state, new.changes)
            _evaluate_superseded(new, now)
        else:
            opened.append(new)
    result.missed = _add_to_known(result.missed)
    _insert_runs([run for new in opened if (run := new.run)] + result.missed)
    for new in opened:
        assert new.run is not None
        if new.state.overdue_incident and not new.state.is_queued:
            new.changes["overdue_incident"] = False
            for kind in (IncidentKind.OVERDUE, IncidentKind.BLOCKED):
                incidents.resolve(
                    new.state.job, new.state.host, kind, "A run started.", now, run=new.run
                )
        new.changes["current_run"] = new.run
        result.started.append(_claimed_run(new.state, new.run, force=force))
    for mine in (token, order_token(token)):
        changed = [(new.state.pk, new.changes) for new in opened if new.state.lease_token == mine]
        update_rows(JobState, changed, only={"lease_token": mine})
    for new in opened:
        _evaluate_superseded(new, now)
    return result


def _read_known_runs(owned: list[JobState], token: str) -> dict[int, Run]:
    """The runs that were committed earlier, whose reply was lost, by primary key."""
    keys = [state.current_run_id for state in owned if state.current_run_id is not None]
    if not keys:
        return {}
    JobState.objects.renew([token], conf.LEASE_SECONDS)  # the lease began then, not now
    return Run.objects.in_bulk(keys)


@dataclass(slots=True)
class _OpenedRun:
    """What an owned state runs, and the changes to write to it."""

    state: JobState
    run: Run | None = None
    changes: dict[str, object] = field(default_factory=dict)
    missed: list[Run] = field(default_factory=list)
    superseded: bool = False
    """The next slot takes the place of a retry, so the slot of that retry has failed."""


def _evaluate_superseded(new: _OpenedRun, now: datetime) -> None:
    """Open the incident of a job whose retry the next slot supersedes."""
    if new.superseded:
        evaluate_failures(new.state.pk, new.state.last_error, now, run=new.state.last_run)


def _release_state(state: JobState, changes: dict[str, object]) -> None:
    """Release a state for which there was nothing to run after all."""
    changes.update(lease_token=None, lease_expires_at=None, lease_host="", lease_owner="")
    JobState.objects.filter(pk=state.pk).update(**changes)


def _claimed_run(state: JobState, run: Run, *, force: bool) -> ClaimedRun:
    has_downstream: bool = state.has_downstream  # type: ignore[attr-defined]  # annotated
    assert state.lease_token is not None
    claimed = ClaimedRun(state, state.job, run, state.lease_token, has_downstream)
    if state.is_queued:
        claimed.executor = state.queued_executor
    elif not force and state.job.batch in shareable_batches():
        claimed.batch = state.job.batch
    return claimed


def _insert_runs(runs: list[Run]) -> None:
    if database().features.can_return_rows_from_bulk_insert:
        Run.objects.bulk_create(runs)
        return
    for run in runs:
        run.save(force_insert=True)


def locked_states(keys: list[int]) -> set[int]:
    """The states that another transaction has locked, or whose jobs it has locked."""
    jobs = dict(JobState.objects.filter(pk__in=keys).values_list("pk", "job"))
    locked = Job.objects.lock(set(jobs.values()))
    return JobState.objects.lock(keys) | {key for key, job in jobs.items() if job in locked}


def block_state(state: int, reason: BlockedReason, detail: str, now: datetime) -> None:
    """Take a state out of the queue until its definition is changed, and store and report why.

    Call it in a transaction.
    """
    blocked = JobState.objects.filter(pk=state, lease_token__isnull=True).update(
        next_slot_at=None,
        next_run_at=None,
        retry_at=None,
        run_requested_at=None,
        run_requested_by="",
        **WITHDRAWN_RESTART,
        blocked_reason=reason,
        blocked_detail=detail[:500],
    )
    if blocked:
        open_stuck(JobState.objects.select_related("job").get(pk=state), detail, now)


def _open_run(state: JobState, now: datetime, host: str, *, force: bool) -> _OpenedRun:
    """Decide what this owned state runs, and compute its next run."""
    new = _OpenedRun(state)
    slot: datetime | None
    attempt = 1
    restarted = False
    args: str | None = None
    requested = state.run_requested_by or Trigger.MANUAL
    if force or (state.run_requested_at is not None and requested == Trigger.MANUAL):
        trigger = Trigger.MANUAL
        slot = now if force else state.run_requested_at
        args = state.run_requested_args if state.run_requested_at is not None else None
        new.changes.update(run_requested_at=None, run_requested_by="", run_requested_args=None)
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
        last_attempt, last_args = _last_attempt(state, slot)
        attempt = max(attempt, last_attempt + 1)
        if restarted:
            args = last_args
    if slot == state.retry_slot_at:
        new.changes.update(retry_at=None, retry_slot_at=None)
    if trigger == Trigger.SCHEDULE and not restarted and not state.is_queued:
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
        ran_on="" if state.is_queued else host,
        scheduled_for=slot,
        attempt=attempt,
        trigger=trigger,
        args=args,
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


def _last_attempt(state: JobState, slot: datetime) -> tuple[int, str | None]:
    """The number of the last attempt at a slot and its own arguments; 0 if there is none."""
    last = (
        Run.objects.filter(job_id=state.job_id, host=state.host, scheduled_for=slot)
        .order_by("-attempt")
        .values_list("attempt", "args")
        .first()
    )
    return last or (0, None)


def _take_scheduled_slot(new: _OpenedRun, now: datetime) -> datetime | None:
    """The slot to run; ``new`` gets the next slot, and the rows and counters of missed slots."""
    state, changes = new.state, new.changes
    job = state.job
    if state.next_slot_at is None:
        return None
    try:
        decision = _decide(state, state.next_slot_at, now)
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
    if state.retry_at is not None and not job.count_attempts:
        new.superseded = True
        changes["consecutive_failures"] = F("consecutive_failures") + 1
        state.consecutive_failures += 1
    for group in decision.missed:
        _record_missed(new, group, now)
    return decision.slot


def _decide(state: JobState, first: datetime, now: datetime) -> SlotDecision:
    """Decide about the slots from ``first``. Raises ScheduleError."""
    job, schedule = state.job, state.job.parsed_schedule()
    waited = state.blocked_reason == BlockedReason.DEPENDENCY
    decision = decide_slots(job, schedule, first, now, state.last_ended_at, waited=waited)
    if not decision.missed:
        return decision  # the usual case, which needs no query
    pausing = Maintenance.objects.active(now, first).filter(pause=True).covering(job.pk)
    paused = list(pausing.order_by().values_list("starts_at", "ends_at").distinct())
    return decide_slots(
        job, schedule, first, now, state.last_ended_at, paused=paused, waited=waited
    )


def _record_missed(new: _OpenedRun, group: MissedSlots, now: datetime) -> None:
    """Count missed slots; ``new`` gets their row."""
    counter = f"missed_{group.reason.value}"
    new.changes[counter] = new.changes.get(counter, F(counter)) + group.count  # type: ignore[operator]
    new.missed.append(_missed_run(new.state, group, now))


def _add_to_known(missed: list[Run]) -> list[Run]:
    """Add slots to the rows of slots that were missed before; return the rows that are new.

    There are such rows if the clock was set back.
    """
    if not missed:
        return []
    slots = {run.scheduled_for for run in missed}
    found = Run.objects.filter(
        job__in={run.job_id for run in missed}, scheduled_for__in=slots, attempt=0
    ).values_list("job", "host", "scheduled_for", "pk")
    known = {(job, host, slot): key for job, host, slot, key in found}
    new: list[Run] = []
    for run in missed:
        place = (run.job_id, run.host, run.scheduled_for)
        key = known.get(place)
        if key is None:
            new.append(run)
        else:
            Run.objects.filter(pk=key).update(missed_slots=F("missed_slots") + run.missed_slots)
    return new


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
