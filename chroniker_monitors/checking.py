"""A check of one monitor, within a run of the scheduler or by hand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime

from chroniker.conf import conf
from chroniker.models import Run

from .enums import Severity
from .models import Monitor
from .recording import check, look
from .taken import Taken


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check."""

    monitor: Monitor
    taken: Taken
    in_run: bool
    """Whether it was the scheduler's: how it ended is then told by the monitor's state."""

    @property
    def line(self) -> str:
        """``NAME CRITICAL: message | value=93.1%;80;90``, as plugins of Nagios write it."""
        taken, probe = self.taken, self.monitor.probe
        head = f"{_plain(self.monitor.name)} {Severity(taken.severity).name}"
        text = _plain(taken.summary)
        if taken.value is None:
            return f"{head}: {text}"
        bounds = ";".join("" if b is None else f"{b:g}" for b in (probe.warning, probe.critical))
        unit = _plain(taken.unit).replace(" ", "")
        return f"{head}: {text} | value={taken.value:.6g}{unit};{bounds}"


def check_monitor(monitor: Monitor, *, now: datetime, dry_run: bool = False) -> Checked:
    """Measure a monitor, and record it unless ``dry_run``."""
    probe = monitor.probe
    if dry_run:
        return Checked(monitor, look(monitor, probe, now=now), in_run=False)
    run = _own_run(monitor)
    if run is None:
        host = conf.HOSTNAME if monitor.every_host else ""
        return Checked(monitor, check(monitor, probe, host, now=now).taken, in_run=False)
    recorded = check(monitor, probe, run.host, now=now, run_id=run.pk)
    return Checked(monitor, recorded.taken, in_run=True)


def _own_run(monitor: Monitor) -> Run | None:
    """The run of this very monitor that this process is, None where it is somebody's command line.

    The variable alone is not enough: another job's program may call the command, too.
    """
    number = os.environ.get("CHRONIKER_RUN_ID", "")
    if not number.isdigit():
        return None
    return Run.objects.running().filter(pk=int(number), job=monitor.pk).only("pk", "host").first()


def _plain(text: str) -> str:
    """In one line, without the sign that begins a plugin's figures."""
    return " ".join(text.replace("|", "/").split())
