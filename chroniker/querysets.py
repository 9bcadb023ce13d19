"""States of rows as queries that chain."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.lookups import Exact

from .clock import DatabaseNow, StatementNow, database_now_plus
from .enums import RunStatus, Trigger

if TYPE_CHECKING:
    from .models import (  # noqa: F401
        Digest,
        Host,
        Incident,
        Job,
        JobDependency,
        JobState,
        Maintenance,
        Notification,
        OutputChunk,
        Run,
        Tally,
    )


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs."""

    def needing_planning(self) -> JobQuerySet:
        """Whose definition is not the one that next runs were computed from."""
        # Not "=True": Django would write the bare column, for which SQLite uses no index.
        return self.filter(needs_planning__in=[True])

    def muted(self, now: Any) -> JobQuerySet:
        """Whose alerts a maintenance window mutes at ``now``."""
        return self.filter(Exists(_windows(now).covering(OuterRef("pk"))))

    def paused(self, now: Any) -> JobQuerySet:
        """Which a maintenance window keeps from being started at ``now``."""
        return self.filter(Exists(_windows(now).filter(pause=True).covering(OuterRef("pk"))))


def _windows(now: Any, since: Any = None) -> MaintenanceQuerySet:
    model: Any = apps.get_model("chroniker", "Maintenance")
    windows: MaintenanceQuerySet = model.objects.active(now, since)
    return windows


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

    def unpaused(self, now: Any, since: Any = None) -> JobStateQuerySet:
        """Which no maintenance window keeps from being started at ``now``, nor did ``since``."""
        pausing = _windows(now, since).filter(pause=True).covering(OuterRef("job"))
        return self.filter(~Exists(pausing))

    def paused(self, now: Any) -> JobStateQuerySet:
        """Which a maintenance window keeps from being started at ``now``."""
        return self.filter(Exists(_windows(now).filter(pause=True).covering(OuterRef("job"))))

    def long_due(self, moment: Any) -> JobStateQuerySet:
        """Due since before ``moment``, for whatever reason, and not told as overdue."""
        return self.due(moment).filter(overdue_incident=False)

    def overdue(self, moment: Any, now: Any) -> JobStateQuerySet:
        """Those of them that nothing keeps from starting.

        What waits for another job, or rests in a maintenance window, is not overdue. After the
        window it has as long to start as any other: its host may tick a minute after ours.
        """
        return (
            self.long_due(moment)
            .filter(job__needs_planning=False)
            .current()
            .unpaused(now, moment)
            .unblocked(now)
        )

    def unblocked(self, now: Any) -> JobStateQuerySet:
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

    def beat(self, name: str, version: str, longest_break: float) -> int:
        """Note that ``name`` ticks now; 0 where it has no row yet.

        After a break of more than ``longest_break`` seconds it counts as having just come up.
        """
        kept = When(
            up_since__isnull=False,
            last_tick_at__gte=database_now_plus(-longest_break),
            then=F("up_since"),
        )
        # In this order: MariaDB assigns one after the other.
        return self.filter(name=name).update(
            up_since=Case(kept, default=DatabaseNow(), output_field=models.DateTimeField()),
            last_tick_at=DatabaseNow(),
            version=version,
        )

    def count_claim(self, name: str) -> int:
        """Take the host's row for the rest of the transaction, so that its ticks claim in turn.

        0 where the host is paused.
        """
        return self.filter(name=name, paused=False).update(claims=F("claims") + 1)


class IncidentQuerySet(models.QuerySet["Incident"]):
    """Incidents."""

    def open(self) -> IncidentQuerySet:
        """Not over."""
        return self.filter(resolved_at__isnull=True)

    def of_slot(self, job: int, host: str, kind: str) -> IncidentQuerySet:
        """Those of one job, host slot and kind: at most one of them is open."""
        return self.filter(job=job, host=host, kind=kind)

    def wanting_attention(self, now: Any) -> IncidentQuerySet:
        """A reminder is due, a window that muted them may have ended, or they may be calm."""
        return self.filter(attention_at__lte=now)


class NotificationQuerySet(models.QuerySet["Notification"]):
    """The outbox."""

    def pending(self) -> NotificationQuerySet:
        """Neither sent nor given up."""
        return self.filter(next_attempt_at__isnull=False)

    def due(self, now: Any) -> NotificationQuerySet:
        """To be sent now; those that somebody is sending are not."""
        return self.filter(next_attempt_at__lte=now)

    def claim(self, keys: list[int], token: str, now: datetime, until: datetime) -> int:
        """Take those of the keys that nobody else has taken, until a moment; how many."""
        return self.due(now).filter(pk__in=keys).update(next_attempt_at=until, claim_token=token)

    def claimed_by(self, token: str) -> NotificationQuerySet:
        """Those that bear the token."""
        return self.filter(claim_token=token, next_attempt_at__isnull=False)


class MaintenanceQuerySet(models.QuerySet["Maintenance"]):
    """Maintenance windows."""

    def active(self, now: Any, since: Any = None) -> MaintenanceQuerySet:
        """Begun and not ended or, given ``since``, not ended by then."""
        return self.filter(starts_at__lte=now, ends_at__gt=now if since is None else since)

    def covering(self, job: Any) -> MaintenanceQuerySet:
        """Those for a job (its key, or a reference to one), by name or because they are for all."""
        return self.filter(Q(entries__isnull=True) | Q(entries__job=job))


class DigestQuerySet(models.QuerySet["Digest"]):
    """Digests."""

    def due(self, now: Any) -> DigestQuerySet:
        """To be written now, or to be given their first time."""
        return self.filter(Q(next_at__isnull=True) | Q(next_at__lte=now))


class TallyQuerySet(models.QuerySet["Tally"]):
    """Counters."""

    def add(self, name: str, number: int = 1) -> None:
        """Count; the counter is made when it is first needed."""
        if not self.filter(name=name).update(value=F("value") + number):
            self.bulk_create([self.model(name=name)], ignore_conflicts=True)
            self.filter(name=name).update(value=F("value") + number)

    def read(self, name: str) -> int:
        """Its value; 0 where nothing was counted yet."""
        value: int | None = self.filter(name=name).values_list("value", flat=True).first()
        return value or 0
