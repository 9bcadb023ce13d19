"""Why a due job does not start, stored for people to read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import DatabaseError

from chroniker.alerting.waiting import unmet_dependencies
from chroniker.conf import conf
from chroniker.db.transactions import is_row_locked, run_transaction
from chroniker.enums import BlockedReason
from chroniker.models import Host, JobState, Maintenance
from chroniker.models.job import is_remote
from chroniker.models.state import JobStateQuerySet

from .planning import retired_host_detail

_LIMIT = 200
"""The maximum number of jobs that are explained in one tick."""


def explain_blocked(now: datetime, host: str) -> None:
    """Store what the due jobs of ``host`` wait for: other jobs, or a maintenance window."""
    _explain_dependencies(now, host)
    _explain_maintenance(now, host)


def explain_full_host(now: datetime, host: str, capacity: int) -> None:
    """Store, for the jobs that ``host`` could start, that the host is at capacity."""
    startable = (
        JobState.objects.due(now)
        .for_host(host)
        .unpaused(now)
        .unblocked(now)
        .exclude(is_remote("job__"))
    )
    detail = f"{host} is at capacity (CHRONIKER_MAX_PARALLEL: {capacity})."
    store_blocked(startable.order_by("due_at"), BlockedReason.CAPACITY, detail)


def explain_paused_host(now: datetime, host: str) -> None:
    """Store, for the due jobs that only ``host`` may run, that the host is paused."""
    states = JobState.objects.due(now).for_host(host).exclude(job__hostname="")
    store_blocked(states.order_by("due_at"), BlockedReason.PAUSED, f"Host {host} is paused.")


def explain_absent_hosts(now: datetime) -> None:
    """Store, for jobs that have been due for a long time, that their pinned host is silent."""
    long_ago = now - timedelta(seconds=conf.OVERDUE_SECONDS)
    states = list(
        JobState.objects.due_too_long(long_ago)
        .current()
        .exclude(job__hostname="")
        .select_related("job")
        .order_by("due_at")[:_LIMIT]
    )
    if not states:
        return
    rows = Host.objects.values_list("name", "last_tick_at", "retired_at")
    hosts = {name: (last_tick, retired_at) for name, last_tick, retired_at in rows}
    by_host: dict[str, list[int]] = {}
    for state in states:
        by_host.setdefault(state.host or state.job.hostname, []).append(state.pk)
    for host, keys in by_host.items():
        last_tick, retired_at = hosts.get(host, (None, None))
        if retired_at is not None:
            detail = retired_host_detail(host, retired_at)
        elif last_tick is None:
            detail = f"Host {host} has never ticked."
        elif last_tick < long_ago:
            detail = f"Host {host} last ticked at {last_tick:%Y-%m-%d %H:%M}Z."
        else:
            continue
        store_blocked(JobState.objects.filter(pk__in=keys), BlockedReason.HOST, detail)


def store_blocked(states: JobStateQuerySet, reason: BlockedReason, detail: str) -> None:
    """Store why these states do not start, for the first of them that say something else."""
    # Two steps: MariaDB does not update a table that the condition reads.
    unexplained = states.exclude(blocked_reason=reason, blocked_detail=detail)
    keys = list(unexplained.values_list("pk", flat=True)[:_LIMIT])
    if keys:
        _write(keys, reason, detail)


def _store(state: JobState, reason: BlockedReason, detail: str) -> None:
    """Store it if it differs and the state has not been claimed in the meantime."""
    if (state.blocked_reason, state.blocked_detail) != (reason, detail[:500]):
        _write([state.pk], reason, detail)


def _write(keys: list[int], reason: BlockedReason, detail: str) -> None:
    """Not to states that another transaction has locked: a later tick explains them."""

    def write(keys: Collection[int]) -> None:
        JobState.objects.filter(pk__in=keys, lease_token__isnull=True).update(
            blocked_reason=reason, blocked_detail=detail[:500]
        )

    try:
        write(keys)
    except DatabaseError as error:
        if not is_row_locked(error):
            raise
        run_transaction(lambda: write(set(keys) - JobState.objects.lock(keys)))


def _explain_maintenance(now: datetime, host: str) -> None:
    windows = list(Maintenance.objects.active(now).filter(pause=True).prefetch_related("entries"))
    if not windows:
        return
    due = JobState.objects.due(now).for_host(host).paused(now).order_by("due_at")
    for state in due.only("job", "blocked_reason", "blocked_detail")[:_LIMIT]:
        for window in windows:
            entries = window.entries.all()
            if not entries or state.job_id in {entry.job_id for entry in entries}:
                break
        else:
            continue  # it ended in the meantime
        detail = f"{window.reason or 'Paused'} until {window.ends_at:%Y-%m-%d %H:%M}Z"
        _store(state, BlockedReason.MAINTENANCE, detail)


def _explain_dependencies(now: datetime, host: str) -> None:
    states = list(
        JobState.objects.blocked(now)
        .for_host(host)
        .order_by("due_at")
        .only("job", "host", "blocked_reason", "blocked_detail", "next_slot_at", "last_started_at")[
            :_LIMIT
        ]
    )
    for state, unmet in unmet_dependencies(states, now):
        reasons = dict.fromkeys(dependency.reason for dependency in unmet)
        _store(state, BlockedReason.DEPENDENCY, "; ".join(reasons))
