"""Processes of the host: their number, memory or age."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import psutil

from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading
from .params import param
from .registry import register_probe


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessProbe(BaseProbe):
    """Processes with a given name."""

    kind: ClassVar[str] = "process"
    label: ClassVar[str] = "Processes"
    description: ClassVar[str] = "Number, memory or age of the processes with a name."
    unit: ClassVar[str] = "processes"

    name: str = param(label="Name", help="Such as nginx, or a part of the command line.")
    match: str = param(
        "name",
        label="Compare with",
        choices=(("name", "The program's name"), ("cmdline", "Any part of the command line")),
    )
    user: str = param("", label="User", help="Only processes of this user. Empty: of all users.")
    measure: str = param(
        "count",
        label="Measure",
        choices=(
            ("count", "Number of processes"),
            ("rss_bytes", "Resident memory of all processes, bytes"),
            ("max_rss_bytes", "Resident memory of the largest process, bytes"),
            ("oldest_seconds", "Age of the oldest process, seconds"),
            ("newest_seconds", "Age of the newest process, seconds"),
        ),
    )

    def run(self) -> Reading:
        """Check all processes. Those that end meanwhile are skipped."""
        found = list(self._matching())
        pids = ", ".join(str(process.pid) for process in found[:5])
        many = "…" if len(found) > 5 else ""
        message = f"match {self.name!r}" + (f" (pid {pids}{many})" if found else "")
        if self.measure == "count":
            return Reading(len(found), message)
        message = f"{len(found)} processes {message}"
        values = []
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                values.append(self._value(process))
        if not values:
            raise ProbeError(
                f"No process matches {self.name!r}, so there is no memory or age to measure. To "
                "get an alert when it is not running, measure the number of processes."
            )
        unit = "bytes" if "bytes" in self.measure else "seconds"
        if self.measure == "rss_bytes":
            return Reading(sum(values), message, unit)
        return Reading((min if self.measure == "newest_seconds" else max)(values), message, unit)

    def _matching(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            if process.pid == os.getpid():  # the probe itself, whose command line may match
                continue
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.status() != psutil.STATUS_ZOMBIE and self._matches(process):
                    yield process

    def _matches(self, process: psutil.Process) -> bool:
        if self.match == "name":
            if process.name() != self.name:
                return False
        elif self.name not in " ".join(process.cmdline()):
            return False
        return not self.user or process.username() == self.user

    def _value(self, process: psutil.Process) -> float:
        if "rss" in self.measure:
            return float(process.memory_info().rss)
        return max(time.time() - process.create_time(), 0.0)
