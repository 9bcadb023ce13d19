"""What a monitor measures and what its value is held against."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from chroniker.models import Job
from chroniker_monitors.enums import HEARTBEAT, Operator, Severity
from chroniker_monitors.thresholds import Thresholds

MAX_STREAK = 100
"""Samples in a row, at most: what needs more is a schedule that is too narrow."""


class Probe(models.Model):
    """The measuring half of a monitor's definition; the other half is its :class:`Job`."""

    job = models.OneToOneField(
        Job, models.CASCADE, primary_key=True, related_name="probe", verbose_name=_("monitor")
    )
    kind = models.CharField(_("kind"), max_length=50, db_index=True)
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    operator = models.CharField(
        _("operator"),
        max_length=2,
        choices=Operator,
        default=Operator.ABOVE,
        help_text=_("When the value is bad, compared with a threshold."),
    )
    warning = models.FloatField(
        _("warning"), null=True, blank=True, help_text=_("Threshold. Empty: there is none.")
    )
    critical = models.FloatField(
        _("critical"), null=True, blank=True, help_text=_("Threshold. Empty: there is none.")
    )
    unit = models.CharField(
        _("unit"), max_length=20, blank=True, help_text=_("Empty: the unit of the kind.")
    )
    consecutive = models.PositiveSmallIntegerField(
        _("bad samples"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_STREAK)],
        help_text=_("So many in a row make the state worse."),
    )
    recovery = models.PositiveSmallIntegerField(
        _("good samples"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_STREAK)],
        help_text=_("So many in a row make the state better."),
    )
    timeout_seconds = models.FloatField(
        _("time limit"),
        default=10,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600)],
        help_text=_("Seconds that measuring may take; after that the state is unknown."),
    )
    sample_days = models.PositiveSmallIntegerField(
        _("history"),
        default=31,
        validators=[MinValueValidator(1), MaxValueValidator(3660)],
        help_text=_("Days for which samples are kept."),
    )
    ping_uuid = models.UUIDField(_("ping address"), null=True, blank=True, unique=True)
    """Of a heartbeat: whoever knows it may ping. NULL for every other kind."""

    class Meta:
        verbose_name = _("probe")
        verbose_name_plural = _("probes")
        constraints = (
            models.CheckConstraint(
                condition=models.Q(consecutive__gte=1, recovery__gte=1),
                name="chroniker_probe_counts",
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} of job {self.job_id}"

    @property
    def passive(self) -> bool:
        """Whether its value is told by pings."""
        return self.kind == HEARTBEAT

    @property
    def parameters(self) -> dict[str, Any]:
        """Those that can be shown: a fixture may have stored what is no object at all."""
        return dict(self.params) if isinstance(self.params, dict) else {}

    @property
    def thresholds(self) -> Thresholds:
        """What a value is held against."""
        return Thresholds(self.operator, self.warning, self.critical)

    def evaluate(self, value: float) -> Severity:
        """How bad ``value`` is."""
        return self.thresholds.evaluate(value)

    def set_derived_fields(self) -> None:
        """What follows from the rest: a heartbeat has an address, and is bad when it is late.

        Raises UnknownKind or ParamsInvalid for a heartbeat whose parameters cannot be used.
        """
        if not self.passive:
            self.ping_uuid = None
            return
        from chroniker_monitors.probes import build

        probe_instance: Any = build(self.kind, self.params)
        self.operator = Operator.ABOVE
        self.critical = probe_instance.period_seconds + probe_instance.grace_seconds
        if self.ping_uuid is None:
            self.ping_uuid = uuid.uuid4()
