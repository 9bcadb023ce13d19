"""Incidents: what is wrong with a job or a host, and for how long."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, Expression, F, OuterRef, When
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.enums import IncidentEnd, IncidentKind, Severity

from .job import Job
from .run import Run
from .state import Host


class IncidentQuerySet(PrimaryQuerySet["Incident"]):
    """Incidents."""

    def open(self) -> IncidentQuerySet:
        """Not resolved."""
        return self.filter(resolved_at__isnull=True)

    def announced(self) -> IncidentQuerySet:
        """Those of which people were notified, or would have been if anyone had subscribed."""
        return self.filter(muted=False, flapping=False, cause=None).exclude(notified_severity="")

    def of_placement(self, job: int | None, host: str, kind: str) -> IncidentQuerySet:
        """Those of one job, placement and kind: at most one of them is open."""
        return self.filter(job=job, host=host, kind=kind)

    def without_host(self) -> IncidentQuerySet:
        """Open, on or about a host that is retired or was deleted: nothing can recover."""
        active = Host.objects.active().filter(name=OuterRef("host"))
        return self.open().exclude(host="").exclude(Exists(active))

    def needing_review(self, now: datetime | Expression) -> IncidentQuerySet:
        """A reminder is due, or a maintenance window or flapping may have ended."""
        return self.filter(next_review_at__lte=now)


class Incident(models.Model):
    """A problem of a job or a host, open until it is gone or no longer applies."""

    job = models.ForeignKey(
        Job,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="incidents",
        verbose_name=_("job"),
        help_text=_("Empty if the incident is of a host, or the job was deleted."),
    )
    job_name = models.CharField(max_length=200, blank=True, editable=False)
    """The name of the job when it opened: the job may be renamed or deleted."""
    team = models.CharField(_("team"), max_length=100, blank=True)
    host = models.CharField(
        _("placement"),
        max_length=255,
        blank=True,
        help_text=_("The host, if the job runs on every host; otherwise empty."),
    )
    kind = models.CharField(_("kind"), max_length=12, choices=IncidentKind)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity)
    summary = models.CharField(_("summary"), max_length=500, blank=True)
    opened_at = models.DateTimeField(_("opened"))
    last_seen_at = models.DateTimeField(_("last seen"))
    occurrences = models.PositiveIntegerField(_("occurrences"), default=1)
    resolved_at = models.DateTimeField(_("resolved"), null=True, blank=True)
    ended_by = models.CharField(
        _("ended by"), max_length=12, choices=IncidentEnd, blank=True, editable=False
    )
    resolution = models.CharField(_("resolution"), max_length=500, blank=True)
    cause = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="folded",
        verbose_name=_("cause"),
        help_text=_("The incident that explains this one, and that people were notified of."),
    )
    first_run = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("first run")
    )
    last_run = models.ForeignKey(
        Run, models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=_("last run")
    )
    muted = models.BooleanField(
        _("muted"),
        default=False,
        help_text=_("No notification was sent, because of a maintenance window."),
    )
    flapping = models.BooleanField(
        _("flapping"),
        default=False,
        help_text=_("It opened and closed too often for a notification each time."),
    )
    notified_severity = models.CharField(max_length=8, choices=Severity, blank=True)
    """The worst severity that a notification was written for; empty if there was none."""
    flapping_ended_at = models.DateTimeField(null=True, blank=True)
    """When flapping ended. Earlier openings and resolutions no longer count as flips."""
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("acknowledged by"),
    )
    note = models.TextField(
        _("note"), blank=True, help_text=_("What the person who acknowledged it wrote.")
    )
    next_review_at = models.DateTimeField(null=True, blank=True)
    """When a tick reviews it: a reminder is due, or a window or flapping may have ended."""
    remind_at = models.DateTimeField(null=True, blank=True)
    """When the next reminder is due. A review may be earlier."""
    snapshot = models.JSONField(_("snapshot"), default=dict, blank=True, editable=False)
    """What the host and the database did when it opened; see :mod:`chroniker.alerting.snapshot`."""

    open_placement = models.GeneratedField(
        expression=Case(When(resolved_at__isnull=True, then=F("host"))),
        output_field=models.CharField(max_length=255, null=True),
        db_persist=True,
    )
    """The placement while the incident is open, otherwise NULL. Unique with job and kind, it makes
    every database reject a second open incident; MariaDB ignores a conditional constraint."""
    open_host = models.GeneratedField(
        expression=Case(When(resolved_at__isnull=True, kind=IncidentKind.HOST, then=F("host"))),
        output_field=models.CharField(max_length=255, null=True),
        db_persist=True,
        unique=True,
    )
    """The same for incidents of hosts, which have no job."""

    objects = IncidentQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-id",)
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        constraints = (
            models.UniqueConstraint(
                fields=["job", "kind", "open_placement"], name="chroniker_incident_one_open"
            ),
        )
        indexes = (
            models.Index(fields=["next_review_at"], name="chroniker_incident_attention"),
            models.Index(fields=["resolved_at", "severity"], name="chroniker_incident_open"),
            models.Index(fields=["opened_at"], name="chroniker_incident_opened"),
        )

    def __str__(self) -> str:
        return f"{self.subject}: {self.get_kind_display()}"

    @property
    def subject(self) -> str:
        """What the incident is about: the job, with its placement if it has one, or the host."""
        if self.kind == IncidentKind.HOST:
            return self.host
        name = self.job.name if self.job else self.job_name
        return f"{name} on {self.host}" if self.host else name

    @property
    def is_open(self) -> bool:
        """Whether it is not resolved."""
        return self.resolved_at is None
