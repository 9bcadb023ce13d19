"""Monitors as code."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import ValidationError

from chroniker.as_code.documents import Fields
from chroniker.as_code.kinds import (
    AnyField,
    Kind,
    Values,
    default_of,
    editable_fields,
    register_kind,
)
from chroniker.models import Job
from chroniker_monitors.enums import COMMAND
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.models.monitor import DEFAULT_RUNS_KEPT
from chroniker_monitors.probes import build_probe

_OF_THE_PROBE = (
    "command", "args", "raw_command", "task", "task_args", "task_kwargs", "enqueue",
    "stderr_is_failure", "timeout_seconds",
)  # fmt: skip
"""Fields of the job that follow from its probe; the time limit is that of the probe."""


class MonitorKind(Kind):
    """Jobs that have a probe."""

    key = "monitors"
    required = ("kind",)

    def fields(self) -> Mapping[str, AnyField]:
        """The fields of the probe, then those of the job."""
        return editable_fields(Probe, ("ping_uuid",)) | editable_fields(Job, _OF_THE_PROBE)

    def defaults(self) -> Fields:
        """As in the form: monitors keep fewer runs."""
        fields = self.fields().items()
        return {name: default_of(field) for name, field in fields} | {
            "max_runs_kept": DEFAULT_RUNS_KEPT
        }

    def rows(self) -> Mapping[str, tuple[Job, Values]]:
        """All monitors."""
        monitors = Monitor.objects.select_related("probe").order_by("name")
        return {monitor.name: (monitor, self._values(monitor)) for monitor in monitors}

    def values(self, job: Job) -> Values | None:
        """Those of a job that has a probe."""
        monitor = Monitor.objects.select_related("probe").filter(pk=job.pk).first()
        return None if monitor is None else self._values(monitor)

    def _values(self, monitor: Monitor) -> Values:
        of_probe, of_job = self._split(dict.fromkeys(self.fields()))
        values = {name: getattr(monitor.probe, name) for name in of_probe}
        values |= {name: getattr(monitor, name) for name in of_job}
        if monitor.probe.passive:  # they follow from its parameters
            values["critical"], values["operator"] = None, default_of(self.fields()["operator"])
        return values

    def save(self, name: str, values: Values, row: Job | None) -> Job:
        """Create or change a monitor with its probe."""
        of_probe, of_job = self._split(values)
        monitor = row if isinstance(row, Monitor) else Monitor(name=name)
        probe = monitor.probe if row is not None else Probe()
        for field, value in of_probe.items():
            setattr(probe, field, value)
        for field, value in of_job.items():
            setattr(monitor, field, value)
        monitor.command = COMMAND
        try:
            build_probe(probe.kind, probe.parameters)
        except UnknownKind as error:
            raise ValidationError({"kind": [str(error)]}) from error
        except ParamsInvalid as error:
            texts = [f"{param}: {' '.join(found)}" for param, found in error.errors.items()]
            raise ValidationError({"params": texts}) from error
        if not isinstance(probe.params, dict):
            raise ValidationError({"params": ["must be a mapping."]})
        monitor.full_clean()
        probe.full_clean(exclude=["job"])
        monitor.save_with_probe(probe)
        return monitor

    def _split(self, values: Values) -> tuple[Fields, Fields]:
        names = editable_fields(Probe, ("ping_uuid",))
        of_probe = {name: value for name, value in values.items() if name in names}
        return of_probe, {name: value for name, value in values.items() if name not in names}


register_kind(MonitorKind())
