"""When each job runs next, computed from its definition whenever that has changed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from . import incidents
from .enums import IncidentKind, MissedReason
from .exceptions import ScheduleError
from .models import Host, Incident, Job, JobDependency, JobState, Maintenance
from .models.job import MAX_SECONDS
from .schedules import Schedule, jitter

logger = logging.getLogger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Missed:
    """Slots that are knowingly not run: how many, the first of them, and why."""

    first: datetime
    count: int
    reason: MissedReason


@dataclass(frozen=True, slots=True)
class Served:
    """What becomes of the slots that have come."""

    slot: datetime | None
    """The one that is run; None where it is too late even for the last."""
    missed: tuple[Missed, ...]
    next_slot: datetime | None


def start_of(job: Job, slot: datetime) -> datetime:
    """When a slot is started: its time and the job's jitter, UTC."""
    if not job.jitter_seconds:
        return slot
    return slot + jitter(job.name, slot, min(job.jitter_seconds, MAX_SECONDS))


def serve(
    job: Job,
    schedule: Schedule,
    first: datetime,
    now: datetime,
    last_ended_at: datetime | None,
) -> Served:
    """Decide over the slots from ``first``, which has come, to ``now``.

    At most the last one is run, and not if it would be later than the job's deadline. The others
    are missed: those that passed while the job still ran because of the overlap, the rest because
    nobody was there.
    """
    slot = _last_started(job, schedule, first, now)
    following = schedule.next(slot)
    deadline = job.start_deadline_seconds
    late = (now - start_of(job, slot)).total_seconds()
    if deadline is not None and late > deadline:
        count = schedule.count(first, slot) + 1
        missed = Missed(first, count, MissedReason.DEADLINE)
        return Served(None, (missed,), following)
    count = schedule.count(first, slot)  # those in [first, slot) are as many as in (first, slot]
    if not count:
        return Served(slot, (), following)
    overlapped = 0
    if last_ended_at is not None and last_ended_at >= first:
        overlapped = min(count, schedule.count(first, last_ended_at) + 1)
    rows: list[Missed] = []
    if overlapped:
        rows.append(Missed(first, overlapped, MissedReason.OVERLAP))
    if count > overlapped:
        begin = first
        if overlapped and last_ended_at is not None:
            begin = schedule.next(schedule.latest(first, last_ended_at) or first) or first
        rows.append(Missed(begin, count - overlapped, MissedReason.DOWNTIME))
    return Served(slot, tuple(rows), following)


def _last_started(job: Job, schedule: Schedule, first: datetime, now: datetime) -> datetime:
    """The last slot whose start has come; ``first`` has."""
    slot = schedule.latest(first, now) or first
    while slot > first and start_of(job, slot) > now:
        slot = schedule.latest(first, slot - timedelta(microseconds=1)) or first
    return slot


def plan_changed_jobs(now: datetime) -> int:
    """Compute the next runs of all jobs whose definition has changed; how many that were.

    A new job counts from its creation, a changed one from ``now``. A schedule that cannot be used
    is logged and blocks its job; the others go on.
    """
    planned = 0
    while True:
        jobs = list(Job.objects.needing_planning().order_by("pk")[:_BATCH])
        if not jobs:
            return planned
        hosts = _host_names() if any(job.every_host for job in jobs) else []
        _plan(jobs, hosts, now)
        planned += len(jobs)


def plan_for_new_host(name: str, now: datetime) -> None:
    """Give a host that has just appeared its states of the jobs that run on every host."""
    last = 0
    while True:
        jobs = list(Job.objects.filter(hostname="*", pk__gt=last).order_by("pk")[:_BATCH])
        if not jobs:
            return
        JobState.objects.bulk_create(
            [_new_state(job, name, now) for job in jobs], ignore_conflicts=True
        )
        last = jobs[-1].pk


def _host_names() -> list[str]:
    return list(Host.objects.values_list("name", flat=True))


def _plan(jobs: list[Job], hosts: list[str], now: datetime) -> None:
    states: dict[int, dict[str, JobState]] = {}
    for state in JobState.objects.filter(job__in=jobs).only("job", "host", "planned_from"):
        states.setdefault(state.job_id, {})[state.host] = state
    new: list[JobState] = []
    for job in jobs:
        mine = states.get(job.pk, {})
        wanted = hosts if job.every_host else [""]
        # A state that was made for a request knows no plan yet.
        first = not job.planned_from and not any(state.planned_from for state in mine.values())
        since = min(job.created_at, now) if first else now
        new += [_new_state(job, host, since) for host in wanted if host not in mine]
        for host, state in mine.items():
            if host not in wanted:
                _retire(state)
            elif state.planned_from != job.definition:
                _replan(state, job, since)
    JobState.objects.bulk_create(new, ignore_conflicts=True)
    _withdraw_incidents(jobs, states, hosts, now)
    # Whatever this says, the database compares it with the definition as it is by then: a change
    # made in the meantime stays noticed.
    for job in jobs:
        job.planned_from = job.definition
    Job.objects.bulk_update(jobs, ["planned_from"])


def _next(job: Job, after: datetime) -> tuple[datetime | None, str]:
    """The next slot and why there can be none."""
    if not job.enabled:
        return None, ""
    try:
        return job.parsed_schedule().next(after), ""
    except ScheduleError as error:
        logger.error("Job %s is skipped: %s", job.name, error, extra={"job_id": job.pk})
        return None, f"schedule: {error}"[:500]


def _new_state(job: Job, host: str, since: datetime) -> JobState:
    slot, problem = _next(job, since)
    return JobState(
        job=job,
        host=host,
        planned_from=job.definition,
        next_slot_at=slot,
        next_run_at=slot and start_of(job, slot),
        blocked_reason=problem,
    )


def _replan(state: JobState, job: Job, since: datetime) -> None:
    slot, problem = _next(job, since)
    # Conditional: of two ticks that notice the same change, one plans.
    JobState.objects.filter(pk=state.pk, planned_from=state.planned_from).update(
        planned_from=job.definition,
        next_slot_at=slot,
        next_run_at=slot and start_of(job, slot),
        retry_at=None,
        blocked_reason=problem,
    )


def _retire(state: JobState) -> None:
    """The job no longer runs on this host slot: keep its counters, plan nothing."""
    JobState.objects.filter(pk=state.pk).update(
        planned_from="",
        next_slot_at=None,
        next_run_at=None,
        retry_at=None,
        run_requested_at=None,
        run_requested_by="",
    )


def _withdraw_incidents(
    jobs: list[Job], states: dict[int, dict[str, JobState]], hosts: list[str], now: datetime
) -> None:
    """End the incidents of what is not to run any more, or by another schedule."""
    by_key = {job.pk: job for job in jobs}
    for incident in Incident.objects.open().filter(job__in=jobs):
        job = incident.job = by_key[incident.job_id]
        state = states.get(job.pk, {}).get(incident.host)
        if not job.enabled:
            incidents.withdraw(incident, "The job was disabled.", now)
        elif incident.host not in (hosts if job.every_host else [""]):
            incidents.withdraw(incident, "The job does not run there any more.", now)
        elif incident.kind == IncidentKind.OVERDUE and (
            state is None or state.planned_from != job.definition
        ):
            incidents.withdraw(incident, "The definition of the job was changed.", now)


def explain_blocked(now: datetime, host: str, limit: int = 200) -> None:
    """Write down, for due jobs that wait for others or rest, what they wait for."""
    _explain_waiting(now, host, limit)
    _explain_paused(now, host, limit)


def _explain_paused(now: datetime, host: str, limit: int) -> None:
    windows = list(Maintenance.objects.active(now).filter(pause=True).prefetch_related("entries"))
    if not windows:
        return
    due = JobState.objects.due(now).for_host(host).paused(now).order_by("due_at")
    for pk, job, reason in list(due.values_list("pk", "job", "blocked_reason")[:limit]):
        for window in windows:
            entries = window.entries.all()
            if not entries or job in {entry.job_id for entry in entries}:
                break
        else:
            continue  # it ended in the meantime
        text = f"maintenance: {window.reason or 'paused'} until {window.ends_at:%Y-%m-%d %H:%M}Z"
        if text != reason:
            JobState.objects.filter(pk=pk, lease_token__isnull=True).update(
                blocked_reason=text[:500]
            )


def _explain_waiting(now: datetime, host: str, limit: int) -> None:
    states = list(
        JobState.objects.blocked(now)
        .for_host(host)
        .order_by("due_at")
        .only("job", "host", "blocked_reason", "next_slot_at", "last_started_at")[:limit]
    )
    if not states:
        return
    dependencies: dict[int, list[JobDependency]] = {}
    for dependency in JobDependency.objects.filter(
        dependent__in=[state.job_id for state in states]
    ).select_related("dependee"):
        dependencies.setdefault(dependency.dependent_id, []).append(dependency)
    dependee_states = _states_of(
        dependency.dependee_id for group in dependencies.values() for dependency in group
    )
    for state in states:
        reasons = [
            reason
            for dependency in dependencies.get(state.job_id, ())
            for other in dependee_states.get(dependency.dependee_id, ())
            if not other.host or not state.host or other.host == state.host
            if (reason := _unmet(dependency, state, other, now))
        ]
        text = ("dependency: " + "; ".join(dict.fromkeys(reasons)))[:500]
        if text != state.blocked_reason:
            JobState.objects.filter(pk=state.pk, lease_token__isnull=True).update(
                blocked_reason=text
            )


def _states_of(jobs: Iterable[int]) -> dict[int, list[JobState]]:
    found: dict[int, list[JobState]] = {}
    for state in JobState.objects.current().filter(job__in=set(jobs)):
        found.setdefault(state.job_id, []).append(state)
    return found


def _unmet(dependency: JobDependency, state: JobState, other: JobState, now: datetime) -> str:
    """What ``state`` waits for in ``other``; the same conditions as the query's, in words."""
    name = dependency.dependee.name
    if dependency.wait_for_completion and other.lease_token is not None:
        return f"{name} is running"
    if dependency.wait_for_completion and other.due_at is not None and other.due_at <= now:
        return f"{name} is about to run"
    if dependency.wait_for_success and other.last_status != "succeeded":
        return f"{name} has not succeeded (last status: {other.last_status or 'never run'})"
    if dependency.wait_for_next_run and not _ran_since(state, other):
        return f"{name} has not yet run for this period"
    return ""


def _ran_since(state: JobState, other: JobState) -> bool:
    if other.next_slot_at is not None:
        return state.next_slot_at is None or other.next_slot_at > state.next_slot_at
    if other.last_started_at is None:
        return False
    return state.last_started_at is None or other.last_started_at > state.last_started_at
