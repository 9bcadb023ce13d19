"""Maintenance windows: no notifications and, if so configured, no starts."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Expression, F, OuterRef, Q
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.exceptions import ScheduleError

from .job import Job, site_timezone


class MaintenanceQuerySet(PrimaryQuerySet["Maintenance"]):
    """Maintenance windows."""

    def active(
        self, now: datetime | Expression, since: datetime | Expression | None = None
    ) -> MaintenanceQuerySet:
        """Started and not ended or, with ``since``, not ended at that moment."""
        return self.filter(starts_at__lte=now, ends_at__gt=now if since is None else since)

    def covering(self, job: int | OuterRef | None) -> MaintenanceQuerySet:
        """Those that list a job (its primary key, or a reference to it) or apply to all jobs.

        None: only those that apply to all jobs.
        """
        everything = Q(entries__isnull=True)
        return self.filter(everything if job is None else everything | Q(entries__job=job))

    def recurring(self) -> MaintenanceQuerySet:
        """Those that repeat, which are the latest of their series."""
        return self.filter(recurrence__gt="")


class Maintenance(models.Model):
    """A window that mutes some jobs, or all; with ``pause`` they are not started either."""

    starts_at = models.DateTimeField(_("starts"), default=utc_now)
    ends_at = models.DateTimeField(_("ends"))
    jobs = models.ManyToManyField(
        Job,
        verbose_name=_("jobs"),
        through="MaintenanceJob",
        blank=True,
        related_name="maintenance",
        help_text=_("Leave empty for all jobs."),
    )
    pause = models.BooleanField(
        _("pause"),
        default=False,
        help_text=_("Do not start these jobs. Jobs that are running continue."),
    )
    recurrence = models.CharField(
        _("repeats"),
        max_length=255,
        blank=True,
        help_text=_(
            "When the next windows start, like the schedule of a job: 0 2 * * SUN, or "
            "RRULE:FREQ=MONTHLY;BYDAY=1SU;BYHOUR=2. Each is as long as this one. Empty: once."
        ),
    )
    timezone = models.CharField(
        _("time zone"),
        max_length=63,
        default=site_timezone,
        help_text=_("The time zone of the repetition: an IANA name such as Europe/Berlin."),
    )
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("created by"),
    )

    objects = MaintenanceQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-starts_at",)
        verbose_name = _("maintenance")
        verbose_name_plural = _("maintenance")
        constraints = (
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")),
                name="chroniker_maintenance_ends",
                violation_error_message=_("The end must be after the start."),
            ),
        )
        indexes = (
            models.Index(fields=["ends_at", "starts_at"], name="chroniker_maintenance_now"),
            models.Index(fields=["recurrence", "starts_at"], name="chroniker_maintenance_repeat"),
        )

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M}Z to {self.ends_at:%Y-%m-%d %H:%M}Z" + (
            f": {self.reason}" if self.reason else ""
        )

    def clean(self) -> None:
        """Reject a repetition that cannot be read, or whose windows would overlap."""
        if not self.recurrence:
            return
        from chroniker.schedules import parse

        try:
            schedule = parse(self.recurrence, zone=self.timezone)
        except ScheduleError as error:
            field = "timezone" if error.field == "timezone" else "recurrence"
            raise ValidationError({field: error.reason}) from error
        if not self.starts_at or not self.ends_at:
            return
        following = schedule.upcoming(self.starts_at, 20)
        gaps = [after - before for before, after in pairwise([self.starts_at, *following])]
        if gaps and min(gaps) < self.ends_at - self.starts_at:
            raise ValidationError(
                {"recurrence": _("A window would start before the one before it has ended.")}
            )


class MaintenanceJob(models.Model):
    """A job that a maintenance window lists.

    The row is kept when the job is deleted, so that a window for one job never becomes a window
    for all jobs.
    """

    maintenance = models.ForeignKey(
        Maintenance, models.CASCADE, related_name="entries", verbose_name=_("maintenance")
    )
    job = models.ForeignKey(
        Job, models.SET_NULL, null=True, related_name="+", verbose_name=_("job")
    )

    objects = PrimaryQuerySet["MaintenanceJob"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("job")
        verbose_name_plural = _("jobs (empty: all)")
        constraints = (
            models.UniqueConstraint(
                fields=["maintenance", "job"], name="chroniker_maintained_once"
            ),
        )

    def __str__(self) -> str:
        return str(self.job or "deleted job")
