"""States of rows as queries that chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.lookups import Exact

from .clock import DatabaseNow, StatementNow, database_now_plus
from .enums import RunStatus, Trigger

if TYPE_CHECKING:
    from .models import Host, Job, JobDependency, JobState, OutputChunk, Run  # noqa: F401


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs."""

    def needing_planning(self) -> JobQuerySet:
        """Whose definition is not the one that next runs were computed from."""
        # Not "=True": Django would write the bare column, for which SQLite uses no index.
        return self.filter(needs_planning__in=[True])


class JobDependencyQuerySet(models.QuerySet["JobDependency"]):
    """Dependencies."""

    def unmet(self, now: datetime) -> JobDependencyQuerySet:
        """Those not met for the job state of the outer query, at ``now``.

        Only for use inside ``Exists()`` over job states. A dependee that runs on every host
        counts by its state on the same host or, for a dependent that runs once, by all of them.
        """
        state = "dependee__states__"
        same_host = (
            Q(**{f"{state}host": ""})
            | Q(**{f"{state}host": OuterRef("host")})
            | Q(Exact(OuterRef("host"), Value("")))
        )
        # Not one that the dependee once had: nothing runs there any more.
        of_today = (Q(**{f"{state}host": ""}) & ~Q(dependee__hostname="*")) | (
            ~Q(**{f"{state}host": ""}) & Q(dependee__hostname="*")
        )
        not_complete = Q(wait_for_completion=True) & (
            Q(**{f"{state}lease_token__isnull": False}) | Q(**{f"{state}due_at__lte": now})
        )
        not_succeeded = Q(wait_for_success=True) & ~Q(
            **{f"{state}last_status": RunStatus.SUCCEEDED}
        )
        slot_to_come = Q(**{f"{state}next_slot_at__lte": OuterRef("next_slot_at")})
        not_since = Q(**{f"{state}next_slot_at__isnull": True}) & (
            Q(**{f"{state}last_started_at__isnull": True})
            | Q(**{f"{state}last_started_at__lte": OuterRef("last_started_at")})
        )
        not_next = Q(wait_for_next_run=True) & (slot_to_come | not_since)
        return self.filter(dependent=OuterRef("job")).filter(
            same_host & of_today & (not_complete | not_succeeded | not_next)
        )


class JobStateQuerySet(models.QuerySet["JobState"]):
    """Job states."""

    def due(self, now: datetime) -> JobStateQuerySet:
        """Unowned, and their time has come (slot, retry or request)."""
        return self.filter(due_at__lte=now)

    def for_host(self, name: str) -> JobStateQuerySet:
        """Those that the host ``name`` may run, by a definition that has been planned."""
        anywhere = Q(host="", job__hostname__in=["", name])
        everywhere = Q(host=name, job__hostname="*")
        return self.filter(anywhere | everywhere, job__needs_planning=False)

    def current(self) -> JobStateQuerySet:
        """Those on the host slots that their job has today, not on ones that it once had."""
        return self.filter(
            (Q(host="") & ~Q(job__hostname="*")) | (~Q(host="") & Q(job__hostname="*"))
        )

    def unblocked(self, now: datetime) -> JobStateQuerySet:
        """Whose dependencies are met, or that a person asked for all the same."""
        unmet = self._dependency_model().objects.unmet(now)
        asked_for = Q(run_requested_by=Trigger.MANUAL, run_requested_at__isnull=False)
        return self.filter(asked_for | ~Exists(unmet))

    def blocked(self, now: datetime) -> JobStateQuerySet:
        """Due, and waiting for another job."""
        unmet = self._dependency_model().objects.unmet(now)
        return self.due(now).exclude(run_requested_by=Trigger.MANUAL).filter(Exists(unmet))

    def owned_by(self, tokens: list[str]) -> JobStateQuerySet:
        """Those that bear one of the lease tokens."""
        return self.filter(lease_token__in=tokens)

    def leased_on(self, host: str) -> JobStateQuerySet:
        """Those that a tick of this host owns."""
        return self.filter(lease_host=host, lease_token__isnull=False)

    def stale(self) -> JobStateQuerySet:
        """Owned, but the lease ran out by the database's clock."""
        return self.filter(lease_token__isnull=False, lease_expires_at__lt=StatementNow())

    def renew(self, tokens: list[str], seconds: float) -> int:
        """Let the leases run ``seconds`` from now; how many rows still bear the tokens."""
        return self.owned_by(tokens).update(lease_expires_at=database_now_plus(seconds))

    def request_run(self, now: datetime | None = None) -> int:
        """Ask for a run as soon as a host ticks; how many rows that changed.

        ``now``: the database's clock unless given. A request of a dependency becomes a person's,
        which waits for nothing.
        """
        free = Q(run_requested_at__isnull=True) | Q(run_requested_by=Trigger.DEPENDENCY)
        return self.filter(free).update(
            run_requested_at=now or DatabaseNow(), run_requested_by=Trigger.MANUAL
        )

    def request_stop(self, now: datetime | None = None) -> int:
        """Ask that what runs be stopped; how many rows that changed."""
        return self.filter(lease_token__isnull=False, stop_requested_at__isnull=True).update(
            stop_requested_at=now or DatabaseNow()
        )

    @staticmethod
    def _dependency_model() -> Any:
        return apps.get_model("chroniker", "JobDependency")


class RunQuerySet(models.QuerySet["Run"]):
    """Runs."""

    def running(self) -> RunQuerySet:
        """Not ended."""
        return self.filter(status=RunStatus.RUNNING)

    def ended(self) -> RunQuerySet:
        """Ended, whatever their status."""
        return self.exclude(status=RunStatus.RUNNING)

    def ended_before(self, moment: datetime) -> RunQuerySet:
        """Ended before ``moment``: what cleaning may delete."""
        return self.ended().filter(ended_at__lt=moment)


class OutputChunkQuerySet(models.QuerySet["OutputChunk"]):
    """Pieces of output."""

    def of_stream(self, stream: str) -> OutputChunkQuerySet:
        """One stream's, in the order in which they were written."""
        return self.filter(stream=stream).order_by("offset")


class HostQuerySet(models.QuerySet["Host"]):
    """Hosts."""

    def beat(self, name: str, version: str) -> int:
        """Note that ``name`` ticks now; 0 where it has no row yet."""
        return self.filter(name=name).update(last_tick_at=DatabaseNow(), version=version)

    def count_claim(self, name: str) -> int:
        """Take the host's row for the rest of the transaction, so that its ticks claim in turn.

        0 where the host is paused.
        """
        return self.filter(name=name, paused=False).update(claims=F("claims") + 1)
