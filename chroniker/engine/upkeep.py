"""What a tick does in addition to running jobs: signals, lost runs, plans, incidents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from chroniker.alerting.review import open_late_jobs, review_due_incidents
from chroniker.signals import tick_finished, tick_started

from .blocking import explain_absent_hosts
from .completion import FinishedRun
from .heartbeat import PendingWork, record_first_tick
from .planning import plan_for_new_host
from .reaper import reap
from .tick_clock import TickClock


@contextmanager
def announced_tick(host: str) -> Iterator[None]:
    """Send the signals of a tick."""
    tick_started.send_robust(sender=None, host=host)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        tick_finished.send_robust(sender=None, host=host, error=error)


def settle_host(work: PendingWork, host: str, clock: TickClock) -> list[FinishedRun]:
    """Plan for a host that is new or back, and end its lost runs and those whose lease ran out.

    Returns the runs that were ended.
    """
    if work.returned:
        from .retirement import resume_host

        resume_host(host, clock.now())
    if work.new_host or work.returned:
        plan_for_new_host(host, clock.now())
        record_first_tick(host)
    if work.host_incident:
        from chroniker.alerting.silent_hosts import end_silence

        end_silence(host, clock.now())
    if work.windows_to_repeat:
        from chroniker.alerting.recurring import repeat_windows

        repeat_windows(clock.now())
    if work.owned or work.stale:
        return reap(host, clock.now(), stale=work.stale)
    return []


def review_incidents(
    work: PendingWork, now: datetime, keep_leases: Callable[[], None] = lambda: None
) -> None:
    """Open incidents of late jobs, and review the open ones. After the claim, in a tick."""
    if work.overdue:
        explain_absent_hosts(now)
        keep_leases()
        open_late_jobs(now)
        keep_leases()
    if work.hosts_changed:
        from .retirement import retire_hosts

        retire_hosts(now)
        keep_leases()
    if work.incident_review:
        review_due_incidents(now)
        keep_leases()
    if work.digest:
        from chroniker.alerting.digests import write_digests

        write_digests(now)
        keep_leases()
