"""The monitor: a job that has a probe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from chroniker.db.alias import database_alias
from chroniker.db.querysets import PrimaryQuerySet
from chroniker.models import Job
from chroniker_monitors.enums import BATCH, COMMAND

from .probe import Probe

PROBE_FIELDS = frozenset(
    field.name for field in Probe._meta.concrete_fields if not field.primary_key
)
TIMEOUT_MARGIN_SECONDS = 20
"""How much longer than the time limit of its probe a run may take before it is killed."""
DEFAULT_RUNS_KEPT = 100
"""Monitors keep few runs, because their history is in their samples."""


class MonitorQuerySet(PrimaryQuerySet["Monitor"]):
    """Queries of monitors."""


if TYPE_CHECKING:
    _Manager = models.Manager["Monitor"]
else:
    _Manager = models.Manager.from_queryset(MonitorQuerySet)


class MonitorManager(_Manager):
    """Restricts every query to jobs that have a probe."""

    def get_queryset(self) -> MonitorQuerySet:
        """Return the monitors. All other methods of the manager start from here."""
        return MonitorQuerySet(self.model, using=self._db).filter(probe__isnull=False)

    def define(
        self, *, name: str, kind: str, params: Mapping[str, object] | None = None, **fields: object
    ) -> Monitor:
        """Create a monitor: its job and its probe, in one transaction.

        ``fields`` are fields of the job or the probe. Raises UnknownKind or ParamsInvalid.
        """
        from chroniker_monitors.probes import build_probe

        build_probe(kind, dict(params or {}))
        probe_values = {key: fields.pop(key) for key in PROBE_FIELDS & fields.keys()}
        probe = Probe(kind=kind, params=dict(params or {}), **probe_values)
        monitor = Monitor(name=name, **fields)
        with transaction.atomic(using=self._db or database_alias()):
            monitor.save_with_probe(probe)
        return monitor


class Monitor(Job):
    """A job that measures a value and compares it with thresholds."""

    has_own_form: ClassVar[bool] = True
    objects: ClassVar[MonitorManager] = MonitorManager()  # type: ignore[assignment]
    with_or_without_probe = MonitorQuerySet.as_manager()
    """What ``save()`` uses: the job of a new monitor is written before its probe."""

    class Meta:
        proxy = True
        base_manager_name = "with_or_without_probe"
        verbose_name = _("monitor")
        verbose_name_plural = _("monitors")
        permissions = (("use_sql_probe", "Can define monitors that run SQL"),)

    if TYPE_CHECKING:
        probe: Probe

    @staticmethod
    def report(value: float, message: str = "") -> None:
        """Report a value from a command that a monitor of kind ``command`` runs."""
        from chroniker_monitors.probes.reported_readings import report

        report(value, message)

    def clean(self) -> None:
        """Validate the job. Errors of fields that the form does not have are non-field errors."""
        try:
            super().clean()
        except ValidationError as error:
            errors = dict(error.error_dict)
            hidden_errors = [e for name in ("command", "args") for e in errors.pop(name, [])]
            if hidden_errors:
                errors[NON_FIELD_ERRORS] = hidden_errors
            raise ValidationError(errors) from None

    def save_with_probe(self, probe: Probe) -> None:
        """Set the fields that follow from the probe and save both. Call it in a transaction."""
        probe.set_derived_fields()
        self.command, self.raw_command, self.task = COMMAND, "", ""
        self.failures_open_incidents = False  # the severity of the monitor opens them
        if probe.passive and self.every_host:
            self.hostname = ""  # pings do not depend on the host that evaluates them
        self.stderr_is_failure = False
        self.batch = "" if probe.needs_own_process() else BATCH
        if self.timeout_seconds is None or self.timeout_seconds <= probe.timeout_seconds:
            # The probe must be able to report that it was too slow before its run is killed.
            self.timeout_seconds = math.ceil(probe.timeout_seconds) + TIMEOUT_MARGIN_SECONDS
        if (
            self._state.adding
            and self.max_runs_kept == Job._meta.get_field("max_runs_kept").default
        ):
            self.max_runs_kept = DEFAULT_RUNS_KEPT
        self.save()
        args = f"--job-id {self.pk}"  # by key, so that a rename changes nothing
        if self.args != args:
            self.args = args
            self.save(update_fields=["args"])
        probe.job = self
        probe.save()
