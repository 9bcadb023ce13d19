"""Windows in which alerts are muted, and jobs may rest."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from .job import Job


class MaintenanceQuerySet(models.QuerySet["Maintenance"]):
    """Maintenance windows."""

    def active(self, now: Any, since: Any = None) -> MaintenanceQuerySet:
        """Begun and not ended or, given ``since``, not ended by then."""
        return self.filter(starts_at__lte=now, ends_at__gt=now if since is None else since)

    def covering(self, job: Any) -> MaintenanceQuerySet:
        """Those for a job (its key, or a reference to one), by name or because they are for all."""
        return self.filter(Q(entries__isnull=True) | Q(entries__job=job))


class Maintenance(models.Model):
    """A window that mutes the alerts of some jobs, or of all; with ``pause`` it starts none."""

    starts_at = models.DateTimeField(_("starts"), default=utc_now)
    ends_at = models.DateTimeField(_("ends"))
    jobs = models.ManyToManyField(
        Job,
        verbose_name=_("jobs"),
        through="MaintenanceJob",
        blank=True,
        related_name="maintenance",
        help_text=_("None: all jobs."),
    )
    pause = models.BooleanField(
        _("pause"), default=False, help_text=_("Start none of them; what runs goes on.")
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
        ordering = ("-starts_at",)
        verbose_name = _("maintenance")
        verbose_name_plural = _("maintenance")
        constraints = (
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("starts_at")),
                name="chroniker_maintenance_ends",
                violation_error_message=_("It has to end after it starts."),
            ),
        )
        indexes = (models.Index(fields=["ends_at", "starts_at"], name="chroniker_maintenance_now"),)

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M}Z to {self.ends_at:%Y-%m-%d %H:%M}Z" + (
            f": {self.reason}" if self.reason else ""
        )


class MaintenanceJob(models.Model):
    """A job of a window.

    The row outlives its job: a window for one job never becomes one for all.
    """

    maintenance = models.ForeignKey(
        Maintenance, models.CASCADE, related_name="entries", verbose_name=_("maintenance")
    )
    job = models.ForeignKey(
        Job, models.SET_NULL, null=True, related_name="+", verbose_name=_("job")
    )

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs (none: all)")
        constraints = (
            models.UniqueConstraint(
                fields=["maintenance", "job"], name="chroniker_maintained_once"
            ),
        )

    def __str__(self) -> str:
        return str(self.job or "a job that was deleted")
