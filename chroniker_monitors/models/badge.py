"""Badges: public addresses that show the state of one job or monitor."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.models import Job


class Badge(models.Model):
    """A badge of a job. Without a row there is none; deleting the row revokes its address."""

    job = models.OneToOneField(
        Job, models.CASCADE, primary_key=True, related_name="badge", verbose_name=_("job")
    )
    address = models.UUIDField(_("address"), default=uuid.uuid4, unique=True)
    created_at = models.DateTimeField(_("created"), default=utc_now)

    objects = PrimaryQuerySet["Badge"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("badge")
        verbose_name_plural = _("badges")

    def __str__(self) -> str:
        return f"badge of {self.job}"
