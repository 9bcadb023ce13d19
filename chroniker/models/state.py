"""The state of jobs and hosts: what the scheduler writes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import connections, models
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.utils.translation import gettext_lazy as _

from chroniker.db.clock import DatabaseNow, Moment, StatementNow, database_now_plus
from chroniker.db.notifications import notify_due
from chroniker.db.querysets import PrimaryQuerySet
from chroniker.db.schema import known_schema
from chroniker.enums import BlockedReason, RunStatus, Trigger

from .job import Job, JobDependency
from .maintenance import Maintenance
from .run import Run

_ASKED_FOR = Q(run_requested_at__isnull=False, run_requested_by=Trigger.MANUAL) | Q(
    restart_at__isnull=False, restart_trigger=Trigger.MANUAL
)
"""A person has requested the run, which therefore waits for no other job."""


QUEUED = "queued:"
"""What ``lease_owner`` begins with while a run waits for a worker; the executor's name follows."""

WITHDRAWN_RESTART: dict[str, Any] = {
    "restart_at": None,
    "restart_slot_at": None,
    "restart_attempt": 0,
    "restart_trigger": "",
}
"""The columns of a state of which no interrupted run is to be started again."""

PLANNED = ~Q(job__needs_planning=1)
"""States of jobs that need no planning. Not "IS NULL", which would invite the planner of a database
to start from the index of all those jobs."""


class JobStateQuerySet(PrimaryQuerySet["JobState"]):
    """Job states."""

    def due(self, now: Moment) -> JobStateQuerySet:
        """States without an owner whose slot, retry or requested run is due."""
        return self.filter(due_at__lte=now)

    def for_host(self, name: str) -> JobStateQuerySet:
        """States that the host ``name`` may run and whose definition has been planned."""
        anywhere = Q(host="", job__hostname__in=["", name])
        everywhere = Q(host=name, job__hostname="*")
        return self.filter(anywhere | everywhere, PLANNED)

    def current(self) -> JobStateQuerySet:
        """States of placements that their job has today, not of earlier ones or retired hosts."""
        return self.filter(
            (Q(host="") & ~Q(job__hostname="*")) | (~Q(host="") & Q(job__hostname="*")),
            host_retired=False,
        )

    def pinned_to(self, host: str) -> JobStateQuerySet:
        """States of enabled jobs that only this host may run."""
        return self.filter(host="", job__hostname=host, job__enabled=True)

    def unpaused(self, now: Moment, since: Moment | None = None) -> JobStateQuerySet:
        """States that no window keeps from starting at ``now``, or has since ``since``."""
        pausing = (
            Maintenance.objects.active(now, since).filter(pause=True).covering(OuterRef("job"))
        )
        return self.filter(~Exists(pausing))

    def paused(self, now: Moment) -> JobStateQuerySet:
        """States that a maintenance window keeps from starting at ``now``."""
        return self.filter(
            Exists(Maintenance.objects.active(now).filter(pause=True).covering(OuterRef("job")))
        )

    def due_too_long(self, moment: Moment) -> JobStateQuerySet:
        """Due since before ``moment``, regardless of the reason, without an overdue incident."""
        return self.due(moment).filter(overdue_incident=False)

    def overdue(self, moment: Moment, now: Moment) -> JobStateQuerySet:
        """Due since before ``moment`` although nothing keeps them from starting.

        A job that waits for another job or is paused by a maintenance window is not overdue. After
        the window it has as long to start as any other: its host may tick a minute after ours.
        """
        return (
            self.due_too_long(moment).filter(PLANNED).current().unpaused(now, moment).unblocked(now)
        )

    def unblocked(self, now: Moment) -> JobStateQuerySet:
        """States whose dependencies are met, or whose run a person has requested."""
        unmet = JobDependency.objects.unmet(now)
        return self.filter(_ASKED_FOR | ~Exists(unmet))

    def blocked(self, now: Moment) -> JobStateQuerySet:
        """Due, and waiting for another job."""
        unmet = JobDependency.objects.unmet(now)
        return self.due(now).exclude(_ASKED_FOR).filter(Exists(unmet))

    def owned_by(self, tokens: list[str]) -> JobStateQuerySet:
        """States that carry one of the lease tokens."""
        return self.filter(lease_token__in=tokens)

    def leased_on(self, host: str) -> JobStateQuerySet:
        """States that a tick of this host owns."""
        return self.filter(lease_host=host, lease_token__isnull=False)

    def queued(self) -> JobStateQuerySet:
        """States whose run was handed over to workers, none of which has taken it yet."""
        return self.filter(lease_token__isnull=False, lease_owner__startswith=QUEUED)

    def stale(self) -> JobStateQuerySet:
        """Owned, with a lease that has run out by the database's clock."""
        return self.filter(lease_token__isnull=False, lease_expires_at__lt=StatementNow())

    def renew_unlocked(self, tokens: list[str], seconds: float) -> set[int]:
        """Extend the leases of the states that no other transaction has locked.

        Returns the keys of the others. Call it in a transaction.
        """
        if not connections[self.db].features.has_select_for_update_skip_locked:
            self.renew(tokens, seconds)
            return set()
        mine = self.owned_by(tokens).order_by().values_list("pk", flat=True)
        free = list(mine.select_for_update(skip_locked=True))
        # By primary key only: MariaDB also locks rows that it finds by another condition.
        self.filter(pk__in=free).update(lease_expires_at=database_now_plus(seconds))
        return set(mine).difference(free)

    def renew(self, tokens: list[str], seconds: float) -> int:
        """Extend the leases to ``seconds`` from now; returns how many the tokens still own."""
        return self.owned_by(tokens).update(lease_expires_at=database_now_plus(seconds))

    def request_run(self, now: datetime | None = None, args: str | None = None) -> int:
        """Request a run, which starts when a host ticks; returns the number of changed rows.

        ``now``: the database's clock unless given. ``args``: the arguments of this run, instead
        of those of the job. A request by a dependency becomes a manual one,
        which waits for no other job.
        """
        free = Q(run_requested_at__isnull=True) | Q(run_requested_by=Trigger.DEPENDENCY)
        changed = self.filter(free).update(
            run_requested_at=now or DatabaseNow(),
            run_requested_by=Trigger.MANUAL,
            run_requested_args=args,
        )
        if changed:
            notify_due(self.db)
        return changed

    def request_stop(self, now: datetime | None = None) -> int:
        """Request that running runs stop; returns the number of changed rows."""
        return self.filter(lease_token__isnull=False, stop_requested_at__isnull=True).update(
            stop_requested_at=now or DatabaseNow()
        )


class HostQuerySet(PrimaryQuerySet["Host"]):
    """Hosts."""

    def active(self) -> HostQuerySet:
        """Not retired: those that tick, and those that are missed."""
        return self.filter(retired_at__isnull=True)

    def retired(self) -> HostQuerySet:
        """Retired, and not back."""
        return self.filter(retired_at__isnull=False)

    def retirable(self, silent_before: Moment | None) -> HostQuerySet:
        """Active, not owning a run, and ended in order or silent since ``silent_before``.

        A host that ended in order is kept while enabled jobs are pinned to it: they wait for it.
        ``silent_before`` None: no host is retired for being silent.
        """
        owned = JobState.objects.filter(lease_host=OuterRef("name"), lease_token__isnull=False)
        pinned = Job.objects.filter(enabled=True, hostname=OuterRef("name"))
        # In this order: PostgreSQL would read all jobs first, although no host has ended.
        gone = Q(ended_at__isnull=False) & Q(~Exists(pinned))
        if silent_before is not None:
            gone |= Q(last_tick_at__lt=silent_before)
        return self.active().filter(gone, ~Exists(owned))

    def forgettable(self, retired_before: Moment) -> HostQuerySet:
        """Retired for so long that their rows are deleted, unless a job still names them."""
        named = Job.objects.filter(hostname=OuterRef("name"))
        return self.filter(~Exists(named), retired_at__lte=retired_before)

    def request_review(self) -> int:
        """Make the next tick of each host look for hosts to retire."""
        return self.active().update(hosts_reviewed_at=None)

    def record_heartbeat(self, name: str, version: str, max_gap: float) -> int:
        """Record that ``name`` ticks now; 0 if it has no row yet, or the schema is a newer one.

        After a gap of more than ``max_gap`` seconds it counts as having just started.
        """
        kept = When(
            up_since__isnull=False,
            last_tick_at__gte=database_now_plus(-max_gap),
            then=F("up_since"),
        )
        # In this order: MariaDB assigns one after the other.
        return self.filter(known_schema(), name=name).update(
            up_since=Case(kept, default=DatabaseNow(), output_field=models.DateTimeField()),
            last_tick_at=DatabaseNow(),
            ended_at=None,
            version=version,
        )

    def lock_for_claim(self, name: str) -> int:
        """Lock the host's row for the rest of the transaction, so that its ticks claim in turn.

        0 if the host is paused, or a newer version has migrated the database.
        """
        return self.filter(known_schema(), name=name, paused=False).update(claims=F("claims") + 1)


class JobState(models.Model):
    """The state of a job on one placement, with counters that never decrease.

    Only the scheduler writes it: the holder of ``lease_token`` owns all columns but the requests.
    """

    job = models.ForeignKey(Job, models.CASCADE, related_name="states", verbose_name=_("job"))
    host = models.CharField(
        _("placement"),
        max_length=255,
        blank=True,
        help_text=_("The host, for a job that runs on every host. Otherwise empty."),
    )
    planned_from = models.CharField(max_length=800, blank=True)
    """The definition from which ``next_run_at`` was computed."""

    next_slot_at = models.DateTimeField(_("next slot"), null=True, blank=True)
    next_run_at = models.DateTimeField(
        _("next run"), null=True, blank=True, help_text=_("The next slot plus its jitter.")
    )
    retry_at = models.DateTimeField(_("retry"), null=True, blank=True)
    retry_slot_at = models.DateTimeField(null=True, blank=True)
    retry_attempt = models.PositiveSmallIntegerField(default=0)
    restart_at = models.DateTimeField(_("restart"), null=True, blank=True)
    """When a run was interrupted that is to be started again."""
    restart_slot_at = models.DateTimeField(null=True, blank=True)
    restart_attempt = models.PositiveSmallIntegerField(default=0)
    restart_trigger = models.CharField(max_length=12, blank=True)
    """The trigger of the interrupted run, which its restart keeps."""
    run_requested_at = models.DateTimeField(_("run requested"), null=True, blank=True)
    run_requested_by = models.CharField(max_length=12, blank=True)
    """The trigger of the requested run."""
    run_requested_args = models.TextField(null=True, blank=True)  # noqa: DJ001
    """The arguments of the requested run only. NULL: those of the job."""
    stop_requested_at = models.DateTimeField(_("stop requested"), null=True, blank=True)

    current_run = models.OneToOneField(
        Run, models.SET_NULL, null=True, blank=True, related_name="current_state"
    )
    lease_token = models.CharField(max_length=36, null=True, blank=True)  # noqa: DJ001
    """The owner of the run: every write for the run is conditional on it. NULL: no owner."""
    fence = models.PositiveBigIntegerField(_("fencing number"), default=0)
    """Incremented by each claim. A job can guard its own tables with it: see ``current_run()``."""
    lease_host = models.CharField(max_length=255, blank=True)
    lease_owner = models.CharField(max_length=100, blank=True)
    """The lock file of the owning process, or ``QUEUED`` and the name of an executor."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    blocked_reason = models.CharField(
        _("blocked"), max_length=12, choices=BlockedReason, blank=True
    )
    """Why the job does not start although it is due; empty if nothing prevents it."""
    blocked_detail = models.CharField(_("blocked, in detail"), max_length=500, blank=True)
    """What exactly it waits for: a sentence for a person."""

    last_run = models.ForeignKey(Run, models.SET_NULL, null=True, blank=True, related_name="+")
    last_status = models.CharField(_("last status"), max_length=12, choices=RunStatus, blank=True)
    last_started_at = models.DateTimeField(_("last started"), null=True, blank=True)
    last_ended_at = models.DateTimeField(_("last ended"), null=True, blank=True)
    last_success_at = models.DateTimeField(_("last success"), null=True, blank=True)
    last_failure_at = models.DateTimeField(_("last failure"), null=True, blank=True)
    last_duration_seconds = models.FloatField(_("last duration"), null=True, blank=True)
    last_max_rss_bytes = models.BigIntegerField(_("last peak memory"), null=True, blank=True)
    last_error = models.CharField(_("last error"), max_length=500, blank=True)
    last_trace_id = models.CharField(max_length=32, blank=True, editable=False)
    """The trace of the last run, for exemplars; empty if none was recorded."""
    consecutive_failures = models.PositiveIntegerField(_("consecutive failures"), default=0)
    failing_incident = models.BooleanField(default=False)
    """Whether an incident of kind ``failing`` is open, so that a success need not look for one.
    Written by the owner of the state, together with the incident."""
    overdue_incident = models.BooleanField(default=False)
    """The same for kind ``overdue``. Written together with the incident by any tick while the state
    has no owner, and by the tick that claims it; the row lock separates the two."""

    parts_total = models.BigIntegerField(_("parts"), null=True, blank=True)
    parts_done = models.BigIntegerField(_("parts done"), null=True, blank=True)
    progress_at = models.DateTimeField(_("progress"), null=True, blank=True)

    runs_total = models.PositiveBigIntegerField(_("runs"), default=0)
    failures_error = models.PositiveBigIntegerField(default=0)
    failures_timeout = models.PositiveBigIntegerField(default=0)
    failures_stopped = models.PositiveBigIntegerField(default=0)
    failures_lost = models.PositiveBigIntegerField(default=0)
    interrupted_total = models.PositiveBigIntegerField(_("interrupted runs"), default=0)
    """Runs that a shutdown ended. They are in ``runs_total``, and no failures."""
    missed_overlap = models.PositiveBigIntegerField(default=0)
    missed_downtime = models.PositiveBigIntegerField(default=0)
    missed_deadline = models.PositiveBigIntegerField(default=0)
    missed_paused = models.PositiveBigIntegerField(default=0)
    missed_dependency = models.PositiveBigIntegerField(default=0)
    retries_total = models.PositiveBigIntegerField(default=0)
    duration_seconds_sum = models.FloatField(default=0)
    duration_count = models.PositiveBigIntegerField(default=0)
    duration_buckets = models.JSONField(default=dict, blank=True)
    """Upper bound (as text, seconds) to the number of runs in that bucket; not cumulative.
    ``duration_count`` minus the sum of all buckets is the number of runs above every bound."""
    start_lag_seconds_sum = models.FloatField(default=0)
    start_lag_count = models.PositiveBigIntegerField(default=0)
    start_lag_buckets = models.JSONField(default=dict, blank=True)
    cpu_seconds_total = models.FloatField(default=0)

    host_retired = models.BooleanField(default=False)
    """Whether its host is retired. Slots and counters stay as they are for its return."""

    due_at = models.GeneratedField(
        expression=Case(
            When(lease_token__isnull=False, then=None),
            When(host_retired=True, then=None),
            When(restart_at__isnull=False, then=F("restart_at")),
            When(run_requested_at__isnull=False, then=F("run_requested_at")),
            When(retry_at__isnull=True, then=F("next_run_at")),
            When(next_run_at__isnull=True, then=F("retry_at")),
            When(retry_at__lt=F("next_run_at"), then=F("retry_at")),
            default=F("next_run_at"),
        ),
        output_field=models.DateTimeField(null=True),
        db_persist=True,
    )
    """When it is due: the restart of an interrupted run, else the earliest of slot, retry and
    request; NULL while it has an owner or its host is retired. One column, computed by the
    database, so that one index serves the due query."""

    objects = JobStateQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("job state")
        verbose_name_plural = _("job states")
        constraints = (
            models.UniqueConstraint(fields=["job", "host"], name="chroniker_state_once"),
            models.CheckConstraint(
                condition=Q(lease_token__isnull=True) | Q(lease_expires_at__isnull=False),
                name="chroniker_state_lease_ends",
            ),
        )
        indexes = (
            models.Index(fields=["due_at"], name="chroniker_state_due"),
            models.Index(fields=["lease_expires_at"], name="chroniker_state_lease"),
            models.Index(fields=["lease_token"], name="chroniker_state_token"),
        )

    def __str__(self) -> str:
        return f"state of job {self.job_id}" + (f" on {self.host}" if self.host else "")

    @property
    def is_queued(self) -> bool:
        """Whether its run was handed over to workers, none of which has taken it yet."""
        return self.lease_token is not None and self.lease_owner.startswith(QUEUED)

    @property
    def queued_executor(self) -> str:
        """The executor whose workers may take its run; empty if the run is not queued."""
        return self.lease_owner.removeprefix(QUEUED) if self.is_queued else ""

    @property
    def due_without_restart(self) -> datetime | None:
        """The earliest of slot and retry."""
        times = [moment for moment in (self.retry_at, self.next_run_at) if moment is not None]
        return min(times, default=None)


class Host(models.Model):
    """A machine that runs ticks."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    first_tick_at = models.DateTimeField(_("first tick"), null=True, blank=True)
    last_tick_at = models.DateTimeField(_("last tick"), null=True, blank=True)
    tick_seconds = models.FloatField(
        _("tick"),
        null=True,
        blank=True,
        help_text=_("Seconds that the last tick took until its jobs were started."),
    )
    up_since = models.DateTimeField(null=True, blank=True, editable=False)
    """Since when it has ticked without a long gap. A host that has just started opens no overdue
    incidents: it may be about to start those jobs itself."""
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True, editable=False)
    """When its cronserver ended in order; cleared by the next tick."""
    retired_at = models.DateTimeField(
        _("retired"),
        null=True,
        blank=True,
        help_text=_("It left metrics and lists. It is back with its next tick."),
    )
    hosts_reviewed_at = models.DateTimeField(null=True, blank=True, editable=False)
    """When its tick last found no host to retire; None makes its next tick look."""
    version = models.CharField(_("version"), max_length=50, blank=True)
    paused = models.BooleanField(
        _("paused"), default=False, help_text=_("The host starts no runs. Running ones continue.")
    )
    claims = models.PositiveBigIntegerField(default=0, editable=False)
    """Incremented by each claim as its first write: the row lock makes the ticks of one host claim
    one after the other."""

    objects = HostQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("name",)
        verbose_name = _("host")
        verbose_name_plural = _("hosts")
        permissions = (("retire_host", _("Can retire hosts")),)

    def __str__(self) -> str:
        return self.name
