"""Where each monitor stands, and what it measured."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.utils.translation import gettext_lazy as _

from chroniker.models import Job
from chroniker_monitors.enums import PingKind, Severity
from chroniker_monitors.thresholds import SeverityState

MAX_RECENT_VALUES = 40
"""Values kept on the state itself, so that a board of sparklines reads no history."""


class MonitorState(models.Model):
    """Where a monitor stands on one host slot. Written with each sample, never by a form."""

    job = models.ForeignKey(
        Job, models.CASCADE, related_name="monitor_states", verbose_name=_("monitor")
    )
    host = models.CharField(
        _("host slot"),
        max_length=255,
        blank=True,
        help_text=_("Empty unless the monitor runs on every host by itself."),
    )
    severity = models.PositiveSmallIntegerField(
        _("severity"), choices=Severity, default=Severity.OK
    )
    since = models.DateTimeField(_("since"), null=True, blank=True)
    """When it came to this severity."""
    value = models.FloatField(_("value"), null=True, blank=True)
    """Of the last sample; NULL where that measured nothing."""
    measured_severity = models.PositiveSmallIntegerField(
        _("last measured"), choices=Severity, default=Severity.OK
    )
    """The severity of the last sample alone."""
    message = models.CharField(_("message"), max_length=500, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)
    """Why the probe failed; empty where it measured."""
    unit = models.CharField(_("unit"), max_length=20, blank=True)
    """The unit that the last measurement came with."""
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
    """Samples in a row that disagree with what the severity says of each level; see
    :mod:`chroniker_monitors.thresholds`."""

    last_ping_at = models.DateTimeField(_("last ping"), null=True, blank=True)
    """Of a heartbeat: when it told last how it ended."""
    last_success_ping_at = models.DateTimeField(null=True, blank=True)
    last_ping_started_at = models.DateTimeField(_("started"), null=True, blank=True)
    last_ping_kind = models.CharField(
        _("last ping told"), max_length=7, choices=PingKind, blank=True
    )
    last_ping_exit_code = models.PositiveSmallIntegerField(_("exit code"), null=True, blank=True)
    last_ping_body = models.TextField(_("sent with the ping"), blank=True)
    ping_window_started_at = models.DateTimeField(null=True, blank=True)
    pings_in_window = models.PositiveIntegerField(default=0)
    """How many pings the minute that began at ``ping_window_started_at`` has had: the rate limit."""

    class Meta:
        verbose_name = _("monitor state")
        verbose_name_plural = _("monitor states")
        constraints = (
            models.UniqueConstraint(fields=["job", "host"], name="chroniker_monitor_state_once"),
        )

    def __str__(self) -> str:
        return f"state of monitor {self.job_id}" + (f" on {self.host}" if self.host else "")

    @property
    def severity_state(self) -> SeverityState:
        """Severity and streaks, for the state machine."""
        return SeverityState(
            Severity(self.severity), self.warning_streak, self.unknown_streak, self.critical_streak
        )


class SampleQuerySet(models.QuerySet["Sample"]):
    """Samples."""

    def for_placement(self, job: int, host: str) -> SampleQuerySet:
        """One monitor's on one host slot."""
        return self.filter(job=job, host=host)

    def older_than(self, moment: datetime) -> SampleQuerySet:
        """Taken before ``moment``: what pruning may delete."""
        return self.filter(at__lt=moment)


class Sample(models.Model):
    """What was measured once."""

    job = models.ForeignKey(
        Job, models.CASCADE, related_name="samples", db_index=False, verbose_name=_("monitor")
    )
    host = models.CharField(_("host slot"), max_length=255, blank=True)
    at = models.DateTimeField(_("at"))
    value = models.FloatField(_("value"), null=True, blank=True)
    severity = models.PositiveSmallIntegerField(_("severity"), choices=Severity)
    latency_seconds = models.FloatField(_("latency"), null=True, blank=True)
    message = models.CharField(_("message"), max_length=500, blank=True)
    error = models.CharField(_("error"), max_length=500, blank=True)

    objects = SampleQuerySet.as_manager()

    class Meta:
        ordering = ("-at",)
        verbose_name = _("sample")
        verbose_name_plural = _("samples")
        indexes = (models.Index(fields=["job", "host", "at"], name="chroniker_sample_chart"),)

    def __str__(self) -> str:
        return f"{self.value} at {self.at:%Y-%m-%d %H:%M:%S}Z"
