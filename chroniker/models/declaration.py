"""What was declared as code when it was last applied."""

from __future__ import annotations

from django.db import models
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet

from .job import Job


class Declaration(models.Model):
    """The values of a job that ``chroniker_jobs apply`` has written.

    A field of the job that differs was edited by a person since then.
    """

    job = models.OneToOneField(
        Job, models.CASCADE, primary_key=True, related_name="declaration", verbose_name=_("job")
    )
    source = models.CharField(_("source"), max_length=255)
    """The name of the file, or the module with the declaration."""
    values = models.JSONField(_("values"), default=dict)
    applied_at = models.DateTimeField(_("applied"), default=utc_now)

    objects = PrimaryQuerySet["Declaration"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("declaration")
        verbose_name_plural = _("declarations")

    def __str__(self) -> str:
        return f"{self.job} in {self.source}"
