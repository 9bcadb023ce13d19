"""The ways in which a tick is asked for: by cron, by name, for show."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .conf import conf
from .exceptions import HostUnready
from .heartbeat import beat, note_duration
from .patience import database_told_plainly

# What runs jobs is imported where there are some to run: an idle tick has no use for it.
if TYPE_CHECKING:
    from .endings import Ended
    from .models import Job


def tick_once(
    *, only: frozenset[int] | None = None, force: bool = False, sync: bool = False
) -> None:
    """One tick. Raises DatabaseUnready and HostUnready.

    With CHRONIKER_USE_PID it waits for the tick before it on this host; where one is waiting
    already it leaves everything to that one.
    """
    with _one_at_a_time() if conf.USE_PID else nullcontext(True) as mine:
        if not mine:
            return
        started = time.monotonic()
        with database_told_plainly():
            glance = beat(conf.HOSTNAME)
            if glance.idle and not force:
                note_duration(conf.HOSTNAME, time.monotonic() - started)
        if glance.idle and not force:
            if only is None and conf.HEARTBEAT_URL:
                from .deadman import LifeSign

                LifeSign().send().wait()
            return
        from .scheduler import Runner

        Runner(only=only, force=force, max_parallel=1 if sync else None, glance=glance).run()


@contextmanager
def _one_at_a_time() -> Iterator[bool]:
    from .locks import FileLock

    try:
        waiting, lock = FileLock(f"{conf.PID_FILE}.next"), FileLock(conf.PID_FILE)
        first = waiting.acquire(wait=False)
    except OSError as error:
        raise HostUnready(f"CHRONIKER_PID_FILE cannot be locked: {error}") from error
    if not first:
        yield False
        return
    try:
        try:
            lock.acquire(wait=True)
        except OSError as error:
            raise HostUnready(f"CHRONIKER_PID_FILE cannot be locked: {error}") from error
        waiting.release()
        lock.note(f"{os.getpid()}\n")
        yield True
    finally:
        waiting.close()
        lock.release()


def run_now(jobs: list[Job], on_end: Callable[[Ended], None]) -> list[tuple[Job, str]]:
    """Run the jobs at once; those that were not run, with the reason."""
    from .scheduler import Runner

    ran: set[int] = set()

    def note(ended: Ended) -> None:
        if ended.job.pk in wanted:
            ran.add(ended.job.pk)
            on_end(ended)

    wanted = frozenset(job.pk for job in jobs)
    # A person who asks is not turned away because every place is taken.
    Runner(only=wanted, force=True, max_parallel=2**31, on_end=note).run()
    return [(job, _why_not(job)) for job in jobs if job.pk not in ran]


def _why_not(job: Job) -> str:
    from .models import JobState, Maintenance

    state = JobState.objects.filter(job=job).order_by("-lease_expires_at").first()
    if state is not None and state.lease_token is not None:
        return f"it is running on {state.lease_host}"
    if job.hostname not in ("", "*", conf.HOSTNAME):
        return f"it runs on {job.hostname} only, and this is {conf.HOSTNAME}"
    pausing = Maintenance.objects.active(datetime.now(UTC)).filter(pause=True).covering(job.pk)
    if (window := pausing.first()) is not None:
        return f"a maintenance window pauses it ({window})"
    return "it could not be claimed; is this host paused?"


def due_jobs(only: frozenset[int] | None, *, force: bool) -> list[str]:
    """What a tick would start now, a line each, dependees before those that wait for them.

    Raises DatabaseUnready.
    """
    from .dependencies import in_order
    from .models import JobDependency, JobState
    from .planning import plan_changed_jobs

    now = datetime.now(UTC)
    with database_told_plainly():
        plan_changed_jobs(now)
        states = JobState.objects.for_host(conf.HOSTNAME).unpaused(now).select_related("job")
        if not force:
            states = states.due(now)
        if only is not None:
            states = states.filter(job__in=only)
        found = {state.job_id: state for state in states.order_by("-job__priority", "due_at")}
        edges = JobDependency.objects.filter(dependent__in=list(found)).values_list(
            "dependent_id", "dependee_id"
        )
        return [
            f"{found[key].job.name} (due {found[key].due_at or now:%Y-%m-%d %H:%M:%S}Z)"
            for key in in_order(found, edges)
        ]
