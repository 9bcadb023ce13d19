"""Create the monitors of an import."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import ValidationError

from chroniker.imports.definitions import ImportedMonitor
from chroniker.imports.monitors import MonitorRefused, register_monitor_factory
from chroniker_monitors.enums import COMMAND
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import Monitor

_OWN_FIELDS = ("command", "args", "raw_command", "stderr_is_failure")
"""Fields of the job that follow from the probe."""


def create(name: str, fields: Mapping[str, object], monitor: ImportedMonitor) -> Monitor:
    """Create a monitor with the fields of its job."""
    values = {key: value for key, value in fields.items() if key not in _OWN_FIELDS}
    values.pop("timeout_seconds", None)  # the probe has its own, from which the job's follows
    try:
        Monitor(name=name, command=COMMAND, **values).full_clean()
        return Monitor.objects.define(
            name=name, kind=monitor.kind, params=monitor.params, **values, **monitor.fields
        )
    except (ParamsInvalid, UnknownKind) as error:
        raise MonitorRefused(str(error)) from error
    except ValidationError as error:
        raise MonitorRefused("; ".join(error.messages)) from error


register_monitor_factory(create)
