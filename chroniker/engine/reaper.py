"""Find runs without a living owner and end them as lost.

A run is also lost if its own warden dies or its lease is lost (``processes.running_child``), or if
the database keeps rejecting its end (``finisher``, ``completion.release``).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from django.db.models import F

from chroniker.conf import conf, remote_executors, runtime_dir
from chroniker.db.alias import database
from chroniker.db.clock import database_now_plus
from chroniker.db.transactions import is_outage, is_row_locked, run_transaction
from chroniker.enums import RunStatus
from chroniker.extensions import batch_names
from chroniker.identity import site_identity
from chroniker.logs import log_context
from chroniker.models import JobDependency, JobState, Run
from chroniker.models.state import QUEUED
from chroniker.processes.locks import FileLock, owner_is_dead, owner_is_stopped, remove_owner_lock
from chroniker.processes.running_child import Outcome

from .claims import new_token
from .completion import FinishedRun
from .joint_completion import end_runs

logger = logging.getLogger(__name__)

_UNKNOWN_OWNER_GRACE = timedelta(minutes=5)
_GROUP = 200
"""How many ends of runs of batches are written in one transaction."""
_LOST = "Lost: the {owner} {why}. How far the job came is unknown."


def job_lock(state: int) -> FileLock:
    """The lock that a run of this site holds where CHRONIKER_CHECK_LOCK_FILE is on."""
    return FileLock(Path(runtime_dir()) / f"job-{site_identity()}-{state}.lock")


def reap(host: str, now: datetime, *, stale: bool) -> list[FinishedRun]:
    """End runs without a living owner as lost; ``stale``: some leases have run out.

    On this host: as soon as the kernel has released the lock of the tick, which its wardens and
    jobs hold as well. On other hosts: when the lease has run out by the database's clock; by then
    the wardens there have killed their jobs.
    """
    ended: list[FinishedRun] = []
    owned = (
        JobState.objects.filter(lease_token__isnull=False)
        .exclude(lease_owner__startswith=QUEUED)  # dispatch looks after those
        .select_related("job", "current_run")
        .order_by("pk")  # the same on all hosts, which may write these ends at the same time
    )
    one_machine = database().vendor == "sqlite"
    here = owned if one_machine else owned.filter(lease_host=host)
    dead: dict[str, bool] = {}
    lost: list[JobState] = []
    for state in here:
        owner = state.lease_owner
        if owner not in dead:
            dead[owner] = owner_is_dead(runtime_dir(), owner)
        if dead[owner] or _job_is_dead(state):
            lost.append(state)
    ended += _end_as_lost(lost, now, "died", only_if_stale=False)
    if stale:
        lost = []
        for state in owned.filter(pk__in=JobState.objects.stale().values("pk")):
            if one_machine and not _may_take_over(state):
                continue
            lost.append(state)
            dead.setdefault(state.lease_owner, one_machine)
        ended += _end_as_lost(lost, now, "did not renew its lease", only_if_stale=True)
    for owner, is_dead in dead.items():
        # Last, so that a tick that is interrupted above leaves the file for the next one.
        if is_dead and not JobState.objects.filter(lease_owner=owner).exists():
            remove_owner_lock(runtime_dir(), owner)
    return ended


def _job_is_dead(state: JobState) -> bool:
    """With CHRONIKER_CHECK_LOCK_FILE: whether the kernel has released the run's own lock.

    Only for a tick that is stopped by a signal: any other is about to write the end itself.
    """
    if not conf.CHECK_LOCK_FILE or not owner_is_stopped(state.lease_owner):
        return False
    lock = job_lock(state.pk)
    try:
        if not lock.acquire(wait=False, create=False):
            return False
    except OSError:  # no such file: the run uses another directory
        return False
    lock.release()
    return True


def _may_take_over(state: JobState) -> bool:
    """SQLite: whether a lease that ran out may be taken away.

    All hosts of an SQLite file are one machine, and a long write of a job prevents its own tick
    from renewing. So a living owner keeps its run; one that was stopped by a signal is killed, and
    its run is lost once the kernel reports that all its processes are dead.
    """
    owner = state.lease_owner
    if not owner.startswith("tick-") or not (Path(runtime_dir()) / owner).exists():
        # It belongs to another user, or the file is gone after a reboot.
        ended = state.lease_expires_at
        return ended is None or ended < datetime.now(UTC) - _UNKNOWN_OWNER_GRACE
    if owner_is_stopped(owner):
        logger.warning(
            "Killing the tick %s: it is stopped and its lease ran out", owner, extra=log_context()
        )
        os.kill(int(owner.split("-")[1]), signal.SIGKILL)
    return owner_is_dead(runtime_dir(), owner)


def _end_as_lost(
    states: list[JobState], now: datetime, why: str, *, only_if_stale: bool
) -> list[FinishedRun]:
    """End the runs of these states; returns those that were ended."""
    upstreams = JobDependency.objects.filter(upstream__in=[state.job_id for state in states])
    waited_for = set(upstreams.values_list("upstream", flat=True)) if states else set()
    batches = batch_names()
    single: list[FinishedRun] = []
    together: list[FinishedRun] = []
    for state in states:
        token, run = state.lease_token, state.current_run
        if token is None:
            continue
        if run is None:
            run_transaction(partial(_release_state, state))
            continue
        reason = _LOST.format(owner=_owner(state, run), why=why)
        ended = FinishedRun(
            state=state,
            job=state.job,
            run=run,
            token=token,
            outcome=Outcome(RunStatus.LOST, reason),
            ended_at=now,
            has_downstream=state.job_id in waited_for,
            batch=state.job.batch if state.job.batch in batches else "",
        )
        (together if ended.batch else single).append(ended)
    groups = [together[at : at + _GROUP] for at in range(0, len(together), _GROUP)]
    groups += [[ended] for ended in single]
    give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
    written: list[FinishedRun] = []
    for group in groups:
        if time.monotonic() > give_up_at:
            break  # a later tick ends the others: there are leases to renew
        written += _write_ends(group, only_if_stale=only_if_stale)
    return written


def _owner(state: JobState, run: Run) -> str:
    """Who owned a run, in words."""
    if state.job.effective_executor in remote_executors():
        return f"worker {run.ran_on}"
    return f"scheduler on {state.lease_host or 'another host'}"


def _write_ends(group: list[FinishedRun], *, only_if_stale: bool) -> list[FinishedRun]:
    """Write ends in one transaction or, if the database rejects one of them, each in its own."""
    try:
        done = run_transaction(lambda: end_runs(group, only_if_stale=only_if_stale), attempts=2)
    except Exception as error:  # also of the site: a receiver of its models' signals
        if is_outage(error) and not is_row_locked(error):
            raise
        if len(group) > 1:
            return [
                written
                for ended in group
                for written in _write_ends([ended], only_if_stale=only_if_stale)
            ]
        (ended,) = group
        context = log_context(job=ended.job.name, run=ended.run.pk, host=ended.state.lease_host)
        logger.exception("The end of run %s cannot be written", ended.run.pk, extra=context)
        return []  # continue with others
    return [ended for ended, written in zip(group, done, strict=True) if written]


def _release_state(state: JobState) -> None:
    if JobState.objects.lock([state.pk]):
        return  # another transaction has locked it; a later tick releases it
    JobState.objects.filter(pk=state.pk, lease_token=state.lease_token).update(
        lease_token=None, lease_expires_at=None, lease_host="", lease_owner=""
    )


def adopt_orphan(state: int) -> bool:
    """Give a lease to a run of this state that is running without an owner; False if there is none.

    That happens when a state was deleted and created again. The run would prevent its job from
    starting for ever. Its process may still be alive, so the lease must run out first: by then
    that process has been ended, and the run is lost like any other.
    """
    free = JobState.objects.filter(pk=state, lease_token__isnull=True)
    for orphan in Run.objects.running().filter(job__states=state, job__states__host=F("host")):
        context = log_context(job=orphan.job.name, run=orphan.pk, host=orphan.ran_on)
        logger.warning("Run %s is running without an owner", orphan.pk, extra=context)
        return bool(
            free.update(
                lease_token=new_token(),
                lease_expires_at=database_now_plus(conf.LEASE_SECONDS),
                lease_host=orphan.ran_on,
                lease_owner="",
                current_run=orphan,
            )
        )
    return False
