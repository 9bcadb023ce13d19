"""Check one monitor, in a run of the scheduler or by hand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from chroniker.conf import conf
from chroniker.models import Run
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor

from .measurement import Measurement
from .recorder import measure_and_record, measure_only


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check."""

    monitor: Monitor
    measurement: Measurement
    in_run: bool
    """Whether the scheduler ran the check. The run then fails only if measuring failed."""

    @property
    def line(self) -> str:
        """The output of a Nagios plugin: ``NAME CRITICAL: 93.1 %, message | value=93.1%;80;90``."""
        measurement, probe = self.measurement, self.monitor.probe
        head = f"{_single_line(self.monitor.name)} {Severity(measurement.severity).name}"
        text = _single_line(measurement.summary)
        if measurement.value is None:
            return f"{head}: {text}"
        text = f"{measurement.value:.6g} {_single_line(measurement.unit)}".strip()
        if measurement.message:
            text = f"{text}, {_single_line(measurement.message)}"
        bounds = ";".join("" if b is None else f"{b:g}" for b in (probe.warning, probe.critical))
        unit = _single_line(measurement.unit).replace(" ", "")
        return f"{head}: {text} | value={measurement.value:.6g}{unit};{bounds}"


def check_monitor(monitor: Monitor, *, now: datetime, dry_run: bool = False) -> CheckResult:
    """Measure a monitor and, unless ``dry_run``, record the measurement."""
    probe = monitor.probe
    if dry_run:
        return CheckResult(monitor, measure_only(monitor, probe, now=now), in_run=False)
    run = _current_run(monitor)
    if run is None:
        host = conf.HOSTNAME if monitor.every_host else ""
        return CheckResult(
            monitor, measure_and_record(monitor, probe, host, now=now).measurement, in_run=False
        )
    recorded = measure_and_record(monitor, probe, run.host, now=now, run_id=run.pk)
    return CheckResult(monitor, recorded.measurement, in_run=True)


def _current_run(monitor: Monitor) -> Run | None:
    """The run of this monitor that this process belongs to; None on a command line.

    The environment variable is not enough: the program of another job may call the command, too.
    """
    number = os.environ.get("CHRONIKER_RUN_ID", "")
    if not number.isdigit():
        return None
    return Run.objects.running().filter(pk=int(number), job=monitor.pk).only("pk", "host").first()


def _single_line(text: str) -> str:
    """Join lines, and replace ``|``, which separates the performance data of a Nagios plugin."""
    return " ".join(text.replace("|", "/").split())
