"""The next run of each job, computed again whenever its definition has changed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError

from chroniker.alerting import incidents
from chroniker.alerting.blocked import open_unusable
from chroniker.db.transactions import is_row_locked, run_transaction
from chroniker.enums import BlockedReason, IncidentEnd, IncidentKind, MissedReason, Trigger
from chroniker.exceptions import ScheduleError
from chroniker.logs import log_context
from chroniker.models import Host, Incident, Job, JobState
from chroniker.models.job import DEFINITION, MAX_SECONDS
from chroniker.models.state import WITHDRAWN_RESTART
from chroniker.schedules import Schedule, jitter

logger = logging.getLogger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class MissedSlots:
    """Slots that will not be run: the first, how many, and why."""

    first: datetime
    count: int
    reason: MissedReason


@dataclass(frozen=True, slots=True)
class SlotDecision:
    """What happens to the slots that are due."""

    slot: datetime | None
    """The slot to run; None if even the last one is too late."""
    missed: tuple[MissedSlots, ...]
    next_slot: datetime | None


def start_time(job: Job, slot: datetime) -> datetime:
    """When a slot starts: its time plus the job's jitter, UTC."""
    if not job.jitter_seconds:
        return slot
    return slot + jitter(job.name, slot, min(job.jitter_seconds, MAX_SECONDS))


def decide_slots(
    job: Job,
    schedule: Schedule,
    first: datetime,
    now: datetime,
    last_ended_at: datetime | None,
    *,
    paused: Sequence[Span] = (),
    waited: bool = False,
) -> SlotDecision:
    """Decide which of the slots from ``first``, which is due, to ``now`` is run.

    At most the last slot is run, and only within the job's start deadline. The others are missed,
    each with the first reason that applies: ``paused`` if it lies in one of these spans, in which
    maintenance windows paused the job; ``deadline`` if not even the last slot is run; ``overlap``
    if the job was still running; ``dependency`` if the job ``waited`` for another one; and
    otherwise ``downtime``.
    """
    slot = _latest_startable_slot(job, schedule, first, now)
    following = schedule.next(slot)
    deadline = job.start_deadline_seconds
    late = (now - start_time(job, slot)).total_seconds()
    passed = PassedSlots(schedule, first)
    if deadline is not None and late > deadline:
        missed = _split(passed, [(slot + _INSTANT, MissedReason.DEADLINE)], paused)
        return SlotDecision(None, missed, following)
    reasons = [(slot, MissedReason.DEPENDENCY if waited else MissedReason.DOWNTIME)]
    if last_ended_at is not None and last_ended_at >= first:
        reasons.insert(0, (min(last_ended_at + _INSTANT, slot), MissedReason.OVERLAP))
    return SlotDecision(slot, _split(passed, reasons, paused), following)


_INSTANT = timedelta(microseconds=1)
Span = tuple[datetime, datetime]
"""From the first moment until, not including, the second."""


@dataclass(frozen=True, slots=True)
class PassedSlots:
    """The slots of a schedule from ``start``, which is one."""

    schedule: Schedule
    start: datetime

    def before(self, moment: datetime) -> int:
        """The number of slots before ``moment``."""
        if moment <= self.start:
            return 0
        return self.schedule.count(self.start, moment - _INSTANT) + 1

    def first_from(self, moment: datetime) -> datetime:
        """The first slot not before ``moment``; there is one."""
        if moment <= self.start:
            return self.start
        last = self.schedule.latest(self.start, moment - _INSTANT) or self.start
        return self.schedule.next(last) or last


def _split(
    passed: PassedSlots,
    reasons: Sequence[tuple[datetime, MissedReason]],
    paused: Sequence[Span],
) -> tuple[MissedSlots, ...]:
    """Group the slots by reason: each reason applies until its moment, the last one until the end.

    A slot in one of the ``paused`` spans is missed for that reason. The slots of a group are
    consecutive.
    """
    groups: list[MissedSlots] = []
    begin = passed.start
    for until, reason in reasons:
        for start, stop, why in _pieces(begin, until, reason, paused):
            number = passed.before(stop) - passed.before(start)
            if number and groups and groups[-1].reason == why:
                groups[-1] = replace(groups[-1], count=groups[-1].count + number)
            elif number:
                groups.append(MissedSlots(passed.first_from(start), number, why))
        begin = max(begin, until)
    return tuple(groups)


def _pieces(
    begin: datetime, until: datetime, reason: MissedReason, paused: Sequence[Span]
) -> Iterator[tuple[datetime, datetime, MissedReason]]:
    """Cut the span from ``begin`` to ``until`` at the paused spans, which may overlap."""
    for start, stop in sorted(paused):
        start, stop = max(start, begin), min(stop, until)
        if start < stop:
            yield begin, start, reason
            yield start, stop, MissedReason.PAUSED
            begin = stop
    if begin < until:
        yield begin, until, reason


def _latest_startable_slot(
    job: Job, schedule: Schedule, first: datetime, now: datetime
) -> datetime:
    """The last slot whose start time is not after ``now``; ``first`` is one."""
    slot = schedule.latest(first, now) or first
    while slot > first and start_time(job, slot) > now:
        slot = schedule.latest(first, slot - timedelta(microseconds=1)) or first
    return slot


def plan_changed_jobs(now: datetime, keep_leases: Callable[[], None] = lambda: None) -> int:
    """Compute the next runs of all jobs whose definition has changed; returns their number.

    ``keep_leases`` is called after some of them: a million take minutes.

    Slots of a new job count from its creation, those of a changed job from ``now``. An invalid
    schedule is logged and blocks its job only. A job that another transaction has locked is left to
    a later tick.
    """
    planned, last = 0, 0
    while True:
        found = list(Job.objects.next_needing_planning(last, _BATCH))
        if not found:
            return planned
        last = found[-1].pk
        planned += _plan_unlocked(found, now)
        keep_leases()


def _plan_unlocked(jobs: list[Job], now: datetime) -> int:
    """Plan all of the jobs or, where that has to wait for a lock, those that nobody has locked."""
    hosts = _read_hosts()
    try:
        _plan(jobs, hosts, now)
    except DatabaseError as error:
        # Only then: hosts that plan at the same moment must not skip each other's jobs.
        if not is_row_locked(error):
            raise
        locked = run_transaction(partial(_locked_jobs, [job.pk for job in jobs]))
        jobs = [job for job in jobs if job.pk not in locked]
        _plan(jobs, hosts, now)
    return len(jobs)


def _locked_jobs(keys: list[int]) -> set[int]:
    """The jobs that another transaction has locked, or a state of which it has locked."""
    states = dict(JobState.objects.filter(job__in=keys).values_list("pk", "job"))
    locked = JobState.objects.lock(states)
    return Job.objects.lock(keys) | {states[key] for key in locked}


def plan_for_new_host(name: str, now: datetime) -> None:
    """Create the states of jobs that run on every host for a host that has ticked first."""
    last = 0
    while True:
        jobs = list(Job.objects.filter(hostname="*", pk__gt=last).order_by("pk")[:_BATCH])
        if not jobs:
            return
        JobState.objects.bulk_create(
            [_new_state(job, name, now) for job in jobs], ignore_conflicts=True
        )
        last = jobs[-1].pk


Hosts = dict[str, datetime | None]
"""The names of hosts, and when they were retired."""


def _read_hosts() -> Hosts:
    return dict(Host.objects.values_list("name", "retired_at"))


def retired_host_detail(name: str, retired_at: datetime) -> str:
    """Why a job that is pinned to a retired host does not start, as a sentence."""
    return (
        f"Host {name} was retired at {retired_at:%Y-%m-%d %H:%M}Z. "
        "Pin the job to another host, or disable it."
    )


def _plan(jobs: list[Job], hosts: Hosts, now: datetime) -> None:
    active = [name for name, retired_at in hosts.items() if retired_at is None]
    states: dict[int, dict[str, JobState]] = {}
    for state in JobState.objects.filter(job__in=jobs).only(
        "job", "host", "planned_from", "restart_trigger"
    ):
        states.setdefault(state.job_id, {})[state.host] = state
    new: list[JobState] = []
    for job in jobs:
        mine = states.get(job.pk, {})
        wanted = active if job.every_host else [""]
        # A state that was created for a request has no plan yet.
        first = not job.planned_from and not any(state.planned_from for state in mine.values())
        since = min(job.created_at, now) if first else now
        retired_at = hosts.get(job.hostname) if job.enabled else None
        detail = retired_host_detail(job.hostname, retired_at) if retired_at else ""
        new += [_new_state(job, host, since, detail) for host in wanted if host not in mine]
        for host, state in mine.items():
            if host not in (hosts if job.every_host else [""]):
                _deactivate_state(state)
            elif state.planned_from != job.definition:
                _replan(state, job, since, detail)
    JobState.objects.bulk_create(new, ignore_conflicts=True)
    _withdraw_incidents(jobs, states, active, now)
    for job in jobs:
        if problem := _problem_of(job):
            placements = active if job.every_host else [""]
            run_transaction(partial(open_unusable, job, placements, problem, now))
    # The database compares this with the definition at the time of the write, so that a change
    # made in the meantime is noticed by the next tick.
    for job in jobs:
        job.planned_from = job.definition
    Job.objects.bulk_update(jobs, ["planned_from"])


def _next_slot(job: Job, after: datetime) -> tuple[datetime | None, str]:
    """The next slot, and why there is none."""
    if not job.enabled:
        return None, ""
    try:
        return job.parsed_schedule().next(after), ""
    except ScheduleError as error:
        logger.error("Job %s is skipped: %s", job.name, error, extra=log_context(job=job.name))
        return None, str(error)[:500]


def _problem_of(job: Job) -> str:
    """Why the schedule of an enabled job cannot be used; empty if it can."""
    if not job.enabled:
        return ""
    try:
        job.parsed_schedule()
    except ScheduleError as error:
        return str(error)[:500]
    return ""


def _blocked(problem: str, host_detail: str) -> dict[str, str]:
    """Why a job that has just been planned does not start."""
    if problem:
        return {"blocked_reason": BlockedReason.SCHEDULE, "blocked_detail": problem}
    reason = BlockedReason.HOST if host_detail else ""
    return {"blocked_reason": reason, "blocked_detail": host_detail}


def _new_state(job: Job, host: str, since: datetime, host_detail: str = "") -> JobState:
    slot, problem = _next_slot(job, since)
    return JobState(
        job=job,
        host=host,
        planned_from=job.definition,
        next_slot_at=slot,
        next_run_at=slot and start_time(job, slot),
        **_blocked(problem, host_detail),
    )


def _replan(state: JobState, job: Job, since: datetime, host_detail: str) -> None:
    slot, problem = _next_slot(job, since)
    # Conditional: if two ticks notice the same change, one of them plans.
    withdrawn = not job.enabled and state.restart_trigger != Trigger.MANUAL
    # Disabling a job closes its incidents; what failed before must not count when it is enabled.
    switched = state.planned_from[:2] not in ("", job.definition[:2])
    JobState.objects.filter(pk=state.pk, planned_from=state.planned_from).update(
        **(WITHDRAWN_RESTART if withdrawn else {}),
        **({"consecutive_failures": 0} if switched else {}),
        planned_from=job.definition,
        next_slot_at=slot,
        next_run_at=slot and start_time(job, slot),
        retry_at=None,
        **_blocked(problem, host_detail),
    )


def _deactivate_state(state: JobState) -> None:
    """Plan nothing for a placement that the job no longer has; its counters are kept."""
    JobState.objects.filter(pk=state.pk).update(
        planned_from="",
        next_slot_at=None,
        next_run_at=None,
        retry_at=None,
        run_requested_at=None,
        run_requested_by="",
        **WITHDRAWN_RESTART,
    )


def _withdraw_incidents(
    jobs: list[Job], states: dict[int, dict[str, JobState]], hosts: list[str], now: datetime
) -> None:
    """Close the incidents of jobs that no longer run, or run on another schedule."""
    by_key = {job.pk: job for job in jobs}
    for incident in Incident.objects.open().filter(job__in=jobs):
        assert incident.job_id is not None
        job = incident.job = by_key[incident.job_id]
        state = states.get(job.pk, {}).get(incident.host)
        if not job.enabled:
            incidents.close(incident, IncidentEnd.DISABLED, "The job was disabled.", now)
        elif incident.host not in (hosts if job.every_host else [""]):
            reason = "The job no longer runs on this host."
            incidents.close(incident, IncidentEnd.CHANGED, reason, now)
        elif incident.kind in (IncidentKind.OVERDUE, IncidentKind.BLOCKED) and (
            state is None or (_is_moved(state, job) and not _problem_of(job))
        ):
            reason = "The job's definition was changed."
            incidents.close(incident, IncidentEnd.CHANGED, reason, now)


def _is_moved(state: JobState, job: Job) -> bool:
    """Whether more than the name of the job has changed: an incident survives a renaming."""
    parts = len(DEFINITION)  # the name is last
    return state.planned_from.split("|", parts)[:parts] != job.definition.split("|", parts)[:parts]
