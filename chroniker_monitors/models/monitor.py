"""The monitor: a job that has a probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from chroniker.models import Job
from chroniker_monitors.enums import COMMAND

from .probe import Probe

PROBE_FIELDS = frozenset(
    field.name for field in Probe._meta.concrete_fields if not field.primary_key
)
TIMEOUT_MARGIN_SECONDS = 20
"""What a run may take beyond its probe's own limit before it is killed."""
DEFAULT_RUNS_KEPT = 100
"""Of a monitor: the history is in its samples."""


class MonitorQuerySet(models.QuerySet["Monitor"]):
    """Monitors."""

    def of_kind(self, kind: str) -> MonitorQuerySet:
        """Those whose probe is of ``kind``."""
        return self.filter(probe__kind=kind)


if TYPE_CHECKING:
    _Manager = models.Manager["Monitor"]
else:
    _Manager = models.Manager.from_queryset(MonitorQuerySet)


class MonitorManager(_Manager):
    """Only jobs that have a probe, in every query."""

    def get_queryset(self) -> MonitorQuerySet:
        """Each method of a manager begins here, ``filter()`` and ``get()`` like ``all()``."""
        return MonitorQuerySet(self.model, using=self._db).filter(probe__isnull=False)

    def define(
        self, *, name: str, kind: str, params: Mapping[str, Any] | None = None, **fields: Any
    ) -> Monitor:
        """Create a monitor: its job and its probe, in one transaction.

        ``fields`` are those of both. Raises UnknownKind or ParamsInvalid for what no probe takes.
        """
        from chroniker_monitors.probes import build

        build(kind, dict(params or {}))
        probe_values = {key: fields.pop(key) for key in PROBE_FIELDS & fields.keys()}
        probe = Probe(kind=kind, params=dict(params or {}), **probe_values)
        monitor = Monitor(name=name, **fields)
        with transaction.atomic(using=self._db):
            monitor.save_with_probe(probe)
        return monitor


class Monitor(Job):
    """A job that measures something and holds it against thresholds."""

    objects: ClassVar[MonitorManager] = MonitorManager()  # type: ignore[assignment]

    class Meta:
        proxy = True
        verbose_name = _("monitor")
        verbose_name_plural = _("monitors")
        permissions = (("use_sql_probe", "Can define monitors that run SQL"),)

    if TYPE_CHECKING:
        probe: Probe

    @staticmethod
    def report(value: float, message: str = "") -> None:
        """In a command that a monitor of kind ``command`` runs: tell what was measured."""
        from chroniker_monitors.probes.reported_readings import report

        report(value, message)

    def clean(self) -> None:
        """Refuse what could never run; what nobody has typed is told above the form."""
        try:
            super().clean()
        except ValidationError as error:
            errors = dict(error.error_dict)
            hidden_errors = [e for name in ("command", "args") for e in errors.pop(name, [])]
            if hidden_errors:
                errors[NON_FIELD_ERRORS] = hidden_errors
            raise ValidationError(errors) from None

    def save_with_probe(self, probe: Probe) -> None:
        """Save the definition and its probe; to be called in a transaction.

        The job names its monitor by key, so that a rename changes nothing else.
        """
        probe.set_derived_fields()
        self.command, self.raw_command = COMMAND, ""
        if probe.passive and self.every_host:
            self.hostname = ""  # what is pinged is one thing, whoever looks at it
        self.stderr_is_failure = False
        if self.timeout_seconds is None or self.timeout_seconds <= probe.timeout_seconds:
            # Killed before its time, it could not even say that it was too slow.
            self.timeout_seconds = math.ceil(probe.timeout_seconds) + TIMEOUT_MARGIN_SECONDS
        if (
            self._state.adding
            and self.max_runs_kept == Job._meta.get_field("max_runs_kept").default
        ):
            self.max_runs_kept = DEFAULT_RUNS_KEPT
        self.save()
        args = f"--job-id {self.pk}"
        if self.args != args:
            self.args = args
            self.save(update_fields=["args"])
        probe.job = self
        probe.save()
