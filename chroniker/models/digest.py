"""Digests: who gets the incidents of a day in one email."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Expression, Q
from django.utils.translation import gettext_lazy as _

from .job import site_timezone


class DigestQuerySet(models.QuerySet["Digest"]):
    """Digests."""

    def due(self, now: datetime | Expression) -> DigestQuerySet:
        """To be written now, or new and without a first time."""
        return self.filter(Q(next_at__isnull=True) | Q(next_at__lte=now))


class Digest(models.Model):
    """A user's daily email about the incidents of the jobs that they subscribe to."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        related_name="chroniker_digest",
        verbose_name=_("user"),
    )
    hour = models.PositiveSmallIntegerField(
        _("hour"),
        default=8,
        validators=[MaxValueValidator(23)],
        help_text=_("The hour of the day at which it is sent."),
    )
    timezone = models.CharField(_("time zone"), max_length=63, default=site_timezone)
    digest_only = models.BooleanField(
        _("digest only"), default=False, help_text=_("Send no emails about individual incidents.")
    )
    covered_until = models.DateTimeField(null=True, blank=True, editable=False)
    """The end of the last digest's period; NULL for a new one."""
    next_at = models.DateTimeField(_("next"), null=True, blank=True, editable=False)
    """When it is due; NULL until a tick has computed it."""

    objects = DigestQuerySet.as_manager()

    class Meta:
        verbose_name = _("digest")
        verbose_name_plural = _("digests")
        indexes = (models.Index(fields=["next_at"], name="chroniker_digest_next"),)

    def __str__(self) -> str:
        return f"digest for {self.user}"
