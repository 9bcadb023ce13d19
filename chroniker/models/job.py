"""Jobs and their dependencies: what people define."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import connections, models
from django.db.models import Case, Exists, OuterRef, Q, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Concat
from django.db.models.lookups import Exact, IsNull
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker import progress
from chroniker.conf import CELERY, LOCAL, conf, remote_executors
from chroniker.db.clock import Moment
from chroniker.db.querysets import PrimaryQuerySet
from chroniker.enums import RunStatus, Severity
from chroniker.exceptions import ScheduleError

from .fields import JobForeignKey, SchedulerOwnedField, UpdatedAtField

if TYPE_CHECKING:
    from chroniker.schedules import Schedule
    from chroniker.schedules.deadlines import FinishBy

    from .maintenance import MaintenanceQuerySet


def _active_windows(now: Moment) -> MaintenanceQuerySet:
    """Maintenance windows that are active at ``now``. Their model imports this module."""
    windows: MaintenanceQuerySet = apps.get_model("chroniker", "Maintenance").objects.active(now)
    return windows


class JobQuerySet(PrimaryQuerySet["Job"]):
    """Jobs."""

    def needing_planning(self) -> JobQuerySet:
        """Jobs whose definition has changed since their next run was computed."""
        # A range: SQLite expects that few rows are in one, while it takes from the statistics that
        # an equal value is that of all rows. So it would leave the index of a column of NULLs.
        return self.filter(needs_planning__range=(1, 1))

    def next_needing_planning(self, after: int, number: int) -> JobQuerySet:
        """The first of them whose primary keys are above ``after``, in the order of the keys."""
        following = self.filter(pk__gt=after)
        if connections[self.db].vendor == "sqlite":
            return following.needing_planning().order_by("needs_planning", "pk")[:number]
        # The others sort what a range gives, all of a million new jobs for each call.
        return following.filter(needs_planning=1).order_by("pk")[:number]

    def muted(self, now: Moment) -> JobQuerySet:
        """Jobs whose alerts a maintenance window mutes at ``now``."""
        return self.filter(Exists(_active_windows(now).covering(OuterRef("pk"))))

    def paused(self, now: Moment) -> JobQuerySet:
        """Jobs that a maintenance window keeps from starting at ``now``."""
        return self.filter(Exists(_active_windows(now).filter(pause=True).covering(OuterRef("pk"))))


class JobDependencyQuerySet(PrimaryQuerySet["JobDependency"]):
    """Dependencies."""

    def unmet(self, now: Moment) -> JobDependencyQuerySet:
        """Dependencies that are not met for the job state of the outer query, at ``now``.

        Only for use inside ``Exists()`` over job states. Of an upstream job that runs on every
        host, the state on the same host counts or, if the downstream job runs once, all of them.
        """
        state = "upstream__states__"
        # The dependencies of an interrupted run were met when it first started. It must not run
        # beside an upstream job, but it need not wait for another run of it.
        starts = Q(IsNull(OuterRef("restart_at"), True))
        same_host = (
            Q(**{f"{state}host": ""})
            | Q(**{f"{state}host": OuterRef("host")})
            | Q(Exact(OuterRef("host"), Value("")))
        )
        # Not placements that the upstream job no longer has, nor those of retired hosts.
        of_today = (Q(**{f"{state}host": ""}) & ~Q(upstream__hostname="*")) | (
            ~Q(**{f"{state}host": ""}) & Q(upstream__hostname="*")
        )
        of_today &= Q(**{f"{state}host_retired": False})
        not_complete = Q(wait_for_completion=True) & (
            Q(**{f"{state}lease_token__isnull": False}) | Q(**{f"{state}due_at__lte": now})
        )
        not_succeeded = Q(wait_for_success=True) & ~Q(
            **{f"{state}last_status": RunStatus.SUCCEEDED}
        )
        not_succeeded &= starts
        slot_to_come = Q(**{f"{state}next_slot_at__lte": OuterRef("next_slot_at")})
        not_since = Q(**{f"{state}next_slot_at__isnull": True}) & (
            Q(**{f"{state}last_started_at__isnull": True})
            | Q(**{f"{state}last_started_at__lte": OuterRef("last_started_at")})
        )
        not_next = Q(wait_for_next_run=True) & (slot_to_come | not_since) & starts
        return self.filter(downstream=OuterRef("job")).filter(
            same_host & of_today & (not_complete | not_succeeded | not_next)
        )


def site_timezone() -> str:
    """The time zone of the site, stored in each new job: a later change moves none of its slots."""
    return settings.TIME_ZONE or "UTC"


def is_remote(prefix: str = "") -> Q:
    """The jobs whose runs workers execute; ``prefix`` is the path to the job, such as ``job__``."""
    names = remote_executors()
    remote = Q(**{f"{prefix}executor__in": sorted(names)})
    if conf.EXECUTOR in names:
        remote |= Q(**{f"{prefix}executor": "", f"{prefix}hostname": ""})
    return remote


MAX_SECONDS = 10 * 365 * 24 * 3600
"""Ten years: longer than any job waits or runs, and short enough for dates not to overflow."""

DEFINITION = ("schedule", "timezone", "hostname", "name")
"""The fields that determine the next run, in addition to ``enabled`` (``H`` hashes the name)."""


def _definition_expression() -> Concat:
    parts: list[Combinable] = [Case(When(enabled=True, then=Value("1")), default=Value("0"))]
    for field in DEFINITION:
        parts += [Value("|"), models.F(field)]
    return Concat(*parts, output_field=models.CharField())


class Job(models.Model):
    """A definition: which command runs when, where, within which limits, and who is notified.

    What the scheduler writes is in :class:`JobState`; no run ever changes a definition.
    """

    has_own_form: ClassVar[bool] = False
    """Whether the rows of this proxy are edited and deleted only on its own admin pages."""

    name = models.CharField(
        _("name"),
        max_length=200,
        unique=True,
        help_text=_("Unique. The label job_name of all metrics."),
    )
    description = models.TextField(_("description"), blank=True)
    command = models.CharField(
        _("command"), max_length=200, blank=True, help_text=_("A management command.")
    )
    args = models.TextField(
        _("arguments"), blank=True, help_text=_("As on a command line. Quotes work.")
    )
    raw_command = models.TextField(
        _("raw command"),
        blank=True,
        help_text=_(
            "A program with its arguments, instead of a management command. It runs without a "
            "shell: pipes, variables and globs have no effect. The site must allow raw commands "
            "(CHRONIKER_ALLOW_RAW_COMMANDS)."
        ),
    )
    task = models.CharField(
        _("task"),
        max_length=255,
        blank=True,
        help_text=_(
            "A task of django.tasks by its dotted path (shop.tasks.rebuild), instead of a "
            "management command."
        ),
    )
    task_args = models.JSONField(
        _("task arguments"),
        default=list,
        blank=True,
        help_text=_('The arguments of the task by position: a list in JSON, such as ["all", 7].'),
    )
    task_kwargs = models.JSONField(
        _("named task arguments"),
        default=dict,
        blank=True,
        help_text=_('The arguments of the task by name: an object in JSON, such as {"days": 7}.'),
    )
    enqueue = models.BooleanField(
        _("enqueue"),
        default=False,
        help_text=_(
            "Send the task to the task backend of the site, and wait for its result. Off: it runs "
            "in a process of its own on the host, as commands do."
        ),
    )
    schedule = models.CharField(
        _("schedule"),
        max_length=255,
        blank=True,
        help_text=_(
            "Cron (*/15 8-18 * * MON-FRI, @daily, H H * * *), an interval (@every 90m) or a "
            "recurrence (RRULE:FREQ=WEEKLY;BYDAY=MO). Empty: the job runs only on request or "
            "after its upstream jobs."
        ),
    )
    timezone = models.CharField(
        _("time zone"),
        max_length=63,
        default=site_timezone,
        help_text=_("The time zone of the schedule: an IANA name such as Europe/Berlin."),
    )
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("Off: the schedule starts no runs.")
    )
    hostname = models.CharField(
        _("host"),
        max_length=255,
        blank=True,
        help_text=_("Empty: any one host. A name: only that host. *: every host runs it."),
    )
    executor = models.CharField(
        _("executor"),
        max_length=30,
        blank=True,
        help_text=_(
            "Where it runs: local (on the host that claims it) or celery (on a Celery worker). "
            "Empty: as the site has set it (CHRONIKER_EXECUTOR)."
        ),
    )
    queue = models.CharField(
        _("queue"),
        max_length=100,
        blank=True,
        help_text=_("The queue of the workers that may run it. Empty: CHRONIKER_QUEUE."),
    )
    priority = models.IntegerField(
        _("priority"), default=0, help_text=_("Higher runs first when the host is at capacity.")
    )
    timeout_seconds = models.PositiveIntegerField(
        _("timeout"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_SECONDS)],
        help_text=_("Seconds after which a run is killed. Empty: no limit."),
    )
    expected_seconds = models.PositiveIntegerField(
        _("expected duration"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_SECONDS)],
        help_text=_("Seconds after which an alert fires. The run continues."),
    )
    start_deadline_seconds = models.PositiveIntegerField(
        _("start deadline"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_SECONDS)],
        help_text=_(
            "Seconds. A run that cannot start within this time of its slot is missed. "
            "Empty: it starts no matter how late it is."
        ),
    )
    max_retries = models.PositiveSmallIntegerField(
        _("retries"), default=0, validators=[MaxValueValidator(100)]
    )
    restart_interrupted = models.BooleanField(
        _("restart if interrupted"),
        default=True,
        help_text=_(
            "A run that the shutdown of its host interrupts is started again at once, for the same "
            "slot. That spends no retry."
        ),
    )
    retry_delay_seconds = models.PositiveIntegerField(
        _("retry delay"),
        default=60,
        validators=[MaxValueValidator(MAX_SECONDS)],
        help_text=_("Seconds before the first retry. Doubles with each further retry."),
    )
    kill_grace_seconds = models.PositiveIntegerField(
        _("kill grace"),
        null=True,
        blank=True,
        validators=[MaxValueValidator(MAX_SECONDS)],
        help_text=_("Seconds between SIGTERM and SIGKILL. Empty: CHRONIKER_KILL_GRACE_SECONDS."),
    )
    memory_limit_mb = models.PositiveIntegerField(
        _("memory limit"),
        null=True,
        blank=True,
        validators=[MinValueValidator(16)],
        help_text=_("MiB of private memory for each process of the job. Empty: no limit."),
    )
    nice = models.SmallIntegerField(
        _("nice"),
        default=0,
        validators=[MinValueValidator(-20), MaxValueValidator(19)],
        help_text=_("Added to the nice level. 19 is the lowest CPU priority."),
    )
    jitter_seconds = models.PositiveIntegerField(
        _("jitter"),
        default=0,
        validators=[MaxValueValidator(MAX_SECONDS)],
        help_text=_(
            "Seconds. Each start is delayed by up to this long, always the same for a slot."
        ),
    )
    stderr_is_failure = models.BooleanField(
        _("fail on stderr"),
        default=False,
        help_text=_("A run that writes to stderr fails, regardless of its exit code."),
    )
    log_stdout = models.BooleanField(_("keep stdout"), default=True)
    log_stderr = models.BooleanField(_("keep stderr"), default=True)
    max_runs_kept = models.PositiveIntegerField(
        _("runs kept"),
        default=1000,
        null=True,
        blank=True,
        help_text=_("Older runs are deleted. Counters are not affected. Empty: all runs are kept."),
    )
    subscribers = models.ManyToManyField(
        settings.AUTH_USER_MODEL, verbose_name=_("subscribers"), blank=True, related_name="+"
    )
    subscriber_groups = models.ManyToManyField(
        "auth.Group",
        verbose_name=_("subscriber groups"),
        blank=True,
        related_name="+",
        help_text=_("All members of these groups are subscribed."),
    )
    email_on_failure = models.BooleanField(_("email on failure"), default=True)
    email_on_success = models.BooleanField(_("email on success"), default=False)
    failures_before_alert = models.PositiveSmallIntegerField(
        _("failures before alert"),
        default=1,
        validators=[MinValueValidator(1)],
        help_text=_(
            "An incident opens after this many consecutive slots have failed. A slot has failed "
            "when its retries have failed as well."
        ),
    )
    count_attempts = models.BooleanField(
        _("count attempts"),
        default=False,
        help_text=_("Each failed attempt counts as a failure, even if it is retried."),
    )
    failures_open_incidents = models.BooleanField(
        _("failures open incidents"),
        default=True,
        editable=False,
        help_text=_("Off: failures are recorded and counted, but open no incident."),
    )
    """Off if the command itself opens and resolves incidents, based on what it checks."""
    batch = models.CharField(_("batch"), max_length=30, blank=True, editable=False)
    """The runner that executes its runs together with others; empty: each has its own process. See
    :mod:`chroniker.extensions`."""
    reminder_hours = models.PositiveSmallIntegerField(
        _("reminder"),
        default=24,
        null=True,
        blank=True,
        help_text=_("Hours between reminders while an incident is open. Empty: no reminders."),
    )
    runbook_url = models.URLField(_("runbook"), max_length=500, blank=True)
    team = models.CharField(
        _("team"),
        max_length=100,
        blank=True,
        validators=[
            RegexValidator(
                r"^\w(?:[\w .:/@+-]*[\w.:/@+-])?\Z",
                _("Enter letters, digits, spaces and any of . : / @ + - _ only."),
            )
        ],
        help_text=_("Who is responsible. Alerts and notifications are routed by it."),
    )
    alert_severity = models.CharField(
        _("severity"),
        max_length=8,
        choices=Severity,
        default=Severity.WARNING,
        help_text=_("How bad it is when this job fails or is overdue."),
    )
    minimum_seconds = models.FloatField(
        _("minimum duration"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.001), MaxValueValidator(MAX_SECONDS)],
        help_text=_(
            "Seconds. A run that succeeds faster has probably done nothing: an alert fires."
        ),
    )
    finish_by = models.CharField(
        _("finish by"),
        max_length=20,
        blank=True,
        help_text=_(
            "A time of day in the job's time zone (06:00: the first one after the slot), or a time "
            "after the slot (90m). An alert fires when a run will not finish by then."
        ),
    )
    success_objective = models.FloatField(
        _("success objective"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(99.999)],
        help_text=_(
            "Percent of the runs in 30 days that should succeed, such as 99.5. An alert fires when "
            "failures use up what is left too fast."
        ),
    )
    created_at = models.DateTimeField(_("created"), default=utc_now, editable=False)
    updated_at = UpdatedAtField(_("updated"))

    planned_from = SchedulerOwnedField(max_length=800)
    needs_planning = models.GeneratedField(
        expression=Case(
            When(planned_from=_definition_expression(), then=Value(None)), default=Value(1)
        ),
        output_field=models.SmallIntegerField(null=True),
        db_persist=True,
        null=True,
    )
    """1 if the definition has changed since the next run was computed, else NULL. The database
    computes it, so that a form, a fixture and a plain ``update()`` are all noticed."""

    objects = JobQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("name",)
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        permissions = (
            ("run_job", "Can run a job now"),
            ("stop_job", "Can stop a running job"),
            ("raw_job", "Can define jobs that run raw commands"),
        )
        constraints = (
            models.CheckConstraint(
                condition=(~Q(command="") & Q(task="") & Q(raw_command=""))
                | (Q(command="") & ~Q(task="") & Q(raw_command=""))
                | (Q(command="") & Q(task="") & ~Q(raw_command="")),
                name="chroniker_job_one_command",
                violation_error_message=_(
                    "Enter a command, a task or a raw command, and only one."
                ),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="chroniker_job_has_name"),
        )
        indexes = (models.Index(fields=["needs_planning"], name="chroniker_job_planning"),)

    def __str__(self) -> str:
        return self.name

    @property
    def definition(self) -> str:
        """What the next run is computed from, in the form of ``planned_from``."""
        return "|".join(
            ["1" if self.enabled else "0", *(str(getattr(self, field)) for field in DEFINITION)]
        )

    @property
    def work(self) -> str:
        """What it runs, with its arguments, in one line. The arguments may contain secrets."""
        from .work import describe_work

        return describe_work(self)

    @property
    def work_name(self) -> str:
        """The command or the task; empty for a raw command, which may contain secrets."""
        return self.command or self.task

    @property
    def every_host(self) -> bool:
        """Whether every host runs the job."""
        return self.hostname == "*"

    @property
    def grace_seconds(self) -> float:
        """Time between SIGTERM and SIGKILL, seconds."""
        grace = self.kill_grace_seconds
        return conf.KILL_GRACE_SECONDS if grace is None else grace

    @property
    def effective_executor(self) -> str:
        """Where its runs execute: ``local``, or the name of a remote executor."""
        return self.executor or (LOCAL if self.hostname else conf.EXECUTOR)

    @property
    def effective_queue(self) -> str:
        """The queue to which its runs are published, if they are."""
        return self.queue or conf.QUEUE

    def parsed_schedule(self) -> Schedule:
        """The schedule in the job's time zone. Raises ScheduleError."""
        from chroniker.schedules import parse

        return parse(self.schedule, zone=self.timezone, name=self.name)

    def parsed_finish_by(self) -> FinishBy | None:
        """The deadline of its slots; None if it has none. Raises ScheduleError."""
        if not self.finish_by:
            return None
        from chroniker.schedules.deadlines import parse_finish_by

        return parse_finish_by(self.finish_by, self.timezone)

    def clean(self) -> None:
        """Reject a definition that could never run, with the reason."""
        from .work import work_errors

        errors: dict[str, list[str]] = {}
        try:
            self.parsed_schedule()
            self.parsed_finish_by()
        except ScheduleError as error:
            errors[error.field] = [error.reason]
        errors |= work_errors(self)
        self._clean_executor(errors)
        expected, timeout = self.expected_seconds, self.timeout_seconds
        if expected is not None and timeout is not None and expected >= timeout:
            errors["timeout_seconds"] = [
                f"The timeout must be longer than the expected duration ({expected} s): otherwise "
                "a run is killed before the alert fires. Enter a longer timeout."
            ]
        if errors:
            raise ValidationError(errors)

    def _clean_executor(self, errors: dict[str, list[str]]) -> None:
        names = sorted({LOCAL, *remote_executors()})
        if self.executor and self.executor not in names:
            errors["executor"] = [
                f"There is no executor “{self.executor}”. Enter one of: {', '.join(names)}."
            ]
        elif self.executor == CELERY and find_spec("celery") is None:
            errors["executor"] = [
                "Celery is not installed on this site. Install chroniker[celery]."
            ]
        elif self.executor not in ("", LOCAL) and self.hostname:
            errors["hostname"] = [
                "A worker runs this job, so it cannot be pinned to a host. Leave the host empty, "
                "and enter a queue that only the worker on that host consumes."
            ]

    @staticmethod
    def update_progress(total_parts: int = 0, total_parts_complete: int = 0) -> None:
        """Report progress of the current run; see :func:`chroniker.progress.update_progress`."""
        progress.update_progress(total_parts, total_parts_complete)


class JobDependency(models.Model):
    """``downstream`` does not start until ``upstream`` meets the conditions."""

    downstream = JobForeignKey(
        Job, models.CASCADE, related_name="dependencies", verbose_name=_("downstream")
    )
    upstream = JobForeignKey(
        Job, models.CASCADE, related_name="downstream_dependencies", verbose_name=_("upstream")
    )
    wait_for_completion = models.BooleanField(
        _("wait for completion"),
        default=True,
        help_text=_("Do not start while the upstream job is running or due."),
    )
    wait_for_success = models.BooleanField(
        _("wait for success"),
        default=True,
        help_text=_("Do not start unless the last run of the upstream job succeeded."),
    )
    wait_for_next_run = models.BooleanField(
        _("wait for next run"),
        default=False,
        help_text=_("Do not start until the upstream job has run for the same period."),
    )

    objects = JobDependencyQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        constraints = (
            models.UniqueConstraint(
                fields=["downstream", "upstream"], name="chroniker_dependency_once"
            ),
            models.CheckConstraint(
                condition=~Q(downstream=models.F("upstream")), name="chroniker_dependency_not_self"
            ),
        )

    def __str__(self) -> str:
        return f"{self.downstream} waits for {self.upstream}"

    def clean(self) -> None:
        """Reject a cycle, naming its path."""
        from chroniker.schedules.dependencies import find_cycle

        if self.downstream_id is None or self.upstream_id is None:
            return
        edges = [
            (downstream, upstream)
            for downstream, upstream in JobDependency.objects.exclude(pk=self.pk).values_list(
                "downstream_id", "upstream_id"
            )
        ]
        cycle = find_cycle([*edges, (self.downstream_id, self.upstream_id)])
        if cycle:
            names = Job.objects.in_bulk(cycle)
            path = " → ".join(names[pk].name for pk in cycle)
            raise ValidationError(f"These jobs would wait for each other: {path}.")
