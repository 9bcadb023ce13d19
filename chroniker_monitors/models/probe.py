"""What a monitor measures, and its thresholds."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from chroniker.db.querysets import PrimaryQuerySet
from chroniker.models import Job
from chroniker_monitors.enums import HEARTBEAT, Operator, Severity
from chroniker_monitors.exceptions import UnknownKind

if TYPE_CHECKING:
    from chroniker_monitors.thresholds import Rules, Thresholds

MAX_STREAK = 100
"""The maximum number of samples in a row. For more, use a less frequent schedule instead."""


class Probe(models.Model):
    """What a monitor measures. The rest of its definition is its :class:`Job`."""

    job = models.OneToOneField(
        Job, models.CASCADE, primary_key=True, related_name="probe", verbose_name=_("monitor")
    )
    kind = models.CharField(_("kind"), max_length=50, db_index=True)
    params = models.JSONField(_("parameters"), default=dict, blank=True)
    operator = models.CharField(
        _("operator"),
        max_length=10,
        choices=Operator,
        default=Operator.ABOVE,
        help_text=_(
            "How the value is compared with a threshold to be bad. “Is unusual” compares it with "
            "the same hour of past weeks; the thresholds are then factors that widen what is "
            "usual, such as 2.5 and 4."
        ),
    )
    warning = models.FloatField(
        _("warning"), null=True, blank=True, help_text=_("Threshold. Empty: none.")
    )
    critical = models.FloatField(
        _("critical"), null=True, blank=True, help_text=_("Threshold. Empty: none.")
    )
    unit = models.CharField(
        _("unit"), max_length=20, blank=True, help_text=_("Empty: the unit of the kind.")
    )
    consecutive = models.PositiveSmallIntegerField(
        _("bad samples"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_STREAK)],
        help_text=_("Consecutive samples before the state gets worse."),
    )
    recovery = models.PositiveSmallIntegerField(
        _("good samples"),
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_STREAK)],
        help_text=_("Consecutive samples before the state gets better."),
    )
    timeout_seconds = models.FloatField(
        _("time limit"),
        default=10,
        validators=[MinValueValidator(0.1), MaxValueValidator(3600)],
        help_text=_("In seconds. If measuring takes longer, the sample is unknown."),
    )
    sample_days = models.PositiveSmallIntegerField(
        _("history"),
        default=31,
        validators=[MinValueValidator(1), MaxValueValidator(3660)],
        help_text=_("Days to keep samples."),
    )
    own_process = models.BooleanField(
        _("own process"),
        default=False,
        help_text=_(
            "Measure in a process of its own. Off: in a process that measures other monitors too, "
            "which takes a tenth of the CPU time."
        ),
    )
    ping_uuid = models.UUIDField(_("ping address"), null=True, blank=True, unique=True)
    """The secret part of a heartbeat's address. NULL for every other kind."""

    objects = PrimaryQuerySet["Probe"].as_manager()

    class Meta:
        base_manager_name = "objects"
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
        """Whether its value comes from pings."""
        return self.kind == HEARTBEAT

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters; empty if a fixture has stored something that is not an object."""
        return dict(self.params) if isinstance(self.params, dict) else {}

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of the value."""
        from chroniker_monitors.thresholds import Thresholds

        return Thresholds(self.operator, self.warning, self.critical)

    @property
    def rules(self) -> Rules:
        """When a value changes the severity. One ping is enough for a heartbeat."""
        from chroniker_monitors.thresholds import Rules

        if self.passive:
            return Rules(self.thresholds)
        return Rules(self.thresholds, self.consecutive, self.recovery)

    def evaluate(self, value: float) -> Severity:
        """Return the severity of ``value``."""
        return self.thresholds.evaluate(value)

    def needs_own_process(self) -> bool:
        """Whether it is measured alone, because a person or its kind says so."""
        from chroniker_monitors.probes import kind_class

        try:
            return self.own_process or kind_class(self.kind).own_process
        except UnknownKind:
            return True

    def set_derived_fields(self) -> None:
        """Set the address and the critical threshold of a heartbeat.

        Raises UnknownKind or ParamsInvalid for invalid parameters of a heartbeat.
        """
        if not self.passive:
            self.ping_uuid = None
            return
        from chroniker_monitors.probes import build_probe
        from chroniker_monitors.probes.heartbeats import HeartbeatProbe

        heartbeat = build_probe(self.kind, self.params)
        assert isinstance(heartbeat, HeartbeatProbe)
        self.operator = Operator.ABOVE
        self.critical = heartbeat.period_seconds + heartbeat.grace_seconds
        if self.ping_uuid is None:
            self.ping_uuid = uuid.uuid4()
