"""The state of each monitor, and its samples."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django.db import models
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.models import Job
from chroniker_monitors.enums import PingKind, Severity

if TYPE_CHECKING:
    from chroniker_monitors.series import SeriesState
    from chroniker_monitors.thresholds import SeverityState

MAX_RECENT_VALUES = 40
"""Values kept on the state, so that the sparklines of the list need no samples."""


class MonitorState(models.Model):
    """The state of a monitor on one placement. Written with each sample, never by a form."""

    job = models.ForeignKey(
        Job, models.CASCADE, related_name="monitor_states", verbose_name=_("monitor")
    )
    host = models.CharField(
        _("placement"),
        max_length=255,
        blank=True,
        help_text=_("The host. Empty unless the monitor runs on every host."),
    )
    severity = models.PositiveSmallIntegerField(
        _("severity"), choices=Severity, default=Severity.OK
    )
    since = models.DateTimeField(_("since"), null=True, blank=True)
    """When it changed to this severity."""
    value = models.FloatField(_("value"), null=True, blank=True)
    """The value of the last sample; NULL if it failed."""
    measured_severity = models.PositiveSmallIntegerField(
        _("last measured"), choices=Severity, default=Severity.OK
    )
    """The severity of the last sample alone."""
    message = models.CharField(_("message"), max_length=500, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    """Why the last measurement failed; empty if it succeeded."""
    unit = models.CharField(_("unit"), max_length=20, blank=True)
    """The unit of the last measurement that had one."""
    latency_seconds = models.FloatField(_("latency"), null=True, blank=True)
    last_sample_at = models.DateTimeField(_("last sample"), null=True, blank=True)
    last_run_id = models.BigIntegerField(null=True, blank=True)
    """The run that recorded the last sample; no foreign key, because runs are pruned."""
    samples_total = models.PositiveBigIntegerField(_("samples"), default=0)
    recent_values = models.JSONField(default=list, blank=True)
    """The newest values with their severities, oldest first: ``[[value or null, severity], …]``."""

    warning_streak = models.PositiveSmallIntegerField(default=0)
    unknown_streak = models.PositiveSmallIntegerField(default=0)
    critical_streak = models.PositiveSmallIntegerField(default=0)
    """Samples in a row on the other side of each level than the severity; see
    :mod:`chroniker_monitors.thresholds`."""

    expected_low = models.FloatField(null=True, blank=True)
    expected_high = models.FloatField(null=True, blank=True)
    """The values that are not unusual, if the operator learns them and has enough history."""
    baseline_hour = models.CharField(max_length=80, blank=True)
    """The hour and the time zone that ``baselines`` belongs to."""
    baselines = models.JSONField(default=dict, blank=True)
    """What is usual in that hour by series, so that not every check reads the history; see
    :mod:`chroniker_monitors.baselines`."""
    series = models.JSONField(default=list, blank=True)
    """The states of the groups; see :mod:`chroniker_monitors.series`. Empty without groups."""
    dropped_series = models.PositiveIntegerField(null=True, blank=True)
    """Groups beyond the limit in the last measurement. NULL: the monitor has no groups."""

    last_ping_at = models.DateTimeField(_("last ping"), null=True, blank=True)
    """The last ping of a heartbeat that reported success or failure."""
    last_success_ping_at = models.DateTimeField(null=True, blank=True)
    last_ping_started_at = models.DateTimeField(_("started"), null=True, blank=True)
    last_ping_kind = models.CharField(
        _("last ping result"), max_length=7, choices=PingKind, blank=True
    )
    last_ping_exit_code = models.PositiveSmallIntegerField(_("exit code"), null=True, blank=True)
    last_ping_body = models.TextField(_("body of the last ping"), blank=True)
    ping_window_started_at = models.DateTimeField(null=True, blank=True)
    pings_in_window = models.PositiveIntegerField(default=0)
    """Pings in the minute that started at ``ping_window_started_at``, for the rate limit."""

    objects = PrimaryQuerySet["MonitorState"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("monitor state")
        verbose_name_plural = _("monitor states")
        constraints = (
            models.UniqueConstraint(fields=["job", "host"], name="chroniker_monitor_state_once"),
        )

    def __str__(self) -> str:
        return f"state of monitor {self.job_id}" + (f" on {self.host}" if self.host else "")

    @property
    def has_groups(self) -> bool:
        """Whether the last measurement was one of groups."""
        return self.dropped_series is not None

    @property
    def series_states(self) -> tuple[SeriesState, ...]:
        """The states of the groups, by name."""
        from chroniker_monitors.series import states_from_json

        return states_from_json(self.series)

    @property
    def severity_state(self) -> SeverityState:
        """The severity and the streaks, as a value for the state machine."""
        from chroniker_monitors.thresholds import SeverityState

        return SeverityState(
            Severity(self.severity), self.warning_streak, self.unknown_streak, self.critical_streak
        )


class SampleQuerySet(PrimaryQuerySet["Sample"]):
    """Queries of samples."""

    def for_placement(self, job: int, host: str) -> SampleQuerySet:
        """Samples of a monitor on one placement."""
        return self.filter(job=job, host=host)

    def older_than(self, moment: datetime) -> SampleQuerySet:
        """Samples from before ``moment``, for pruning."""
        return self.filter(at__lt=moment)


class Sample(models.Model):
    """The record of one measurement."""

    job = models.ForeignKey(
        Job, models.CASCADE, related_name="samples", db_index=False, verbose_name=_("monitor")
    )
    host = models.CharField(_("placement"), max_length=255, blank=True)
    at = models.DateTimeField(_("at"))
    value = models.FloatField(_("value"), null=True, blank=True)
    severity = models.PositiveSmallIntegerField(_("severity"), choices=Severity)
    latency_seconds = models.FloatField(_("latency"), null=True, blank=True)
    message = models.CharField(_("message"), max_length=500, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    expected_low = models.FloatField(null=True, blank=True)
    expected_high = models.FloatField(null=True, blank=True)
    """The values that were not unusual, if the operator learned them."""
    series = models.JSONField(null=True, blank=True)
    """The values of the groups, ``{name: [value or null, severity]}``, followed by low and high
    where they are learned. NULL: the monitor had no groups."""

    objects = SampleQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-at",)
        verbose_name = _("sample")
        verbose_name_plural = _("samples")
        indexes = (models.Index(fields=["job", "host", "at"], name="chroniker_sample_chart"),)

    def __str__(self) -> str:
        return f"{self.value} at {self.at:%Y-%m-%d %H:%M:%S}Z"
