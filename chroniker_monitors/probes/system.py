"""Disk, memory, swap, load and CPU of the host that runs the monitor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import psutil

from chroniker_monitors.exceptions import ParamsInvalid, ProbeError

from .base import BaseProbe, Reading
from .params import param
from .registry import register_probe
from .time_limit import call_with_timeout, remaining_seconds

BYTES = "bytes"
PERCENT = "%"


def _format_size(number: float) -> str:
    """Format bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def validate_absolute_path(path: str, name: str) -> None:
    """Raise ParamsInvalid if the path is relative: jobs have no fixed working directory."""
    if not os.path.isabs(path):
        raise ParamsInvalid({name: ["Enter an absolute path, such as /var/backups."]})


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class DiskProbe(BaseProbe):
    """The usage of a file system."""

    kind: ClassVar[str] = "disk"
    label: ClassVar[str] = "Disk space"
    description: ClassVar[str] = "Used or free space of the file system that contains a path."
    unit: ClassVar[str] = PERCENT

    path: str = param("/", label="Path", help="A directory or file on the file system to measure.")
    measure: str = param(
        "percent_used",
        label="Measure",
        choices=(
            ("percent_used", "Used, percent"),
            ("percent_free", "Free, percent"),
            ("free_bytes", "Free, bytes"),
            ("inodes_percent_used", "Inodes used, percent"),
        ),
    )

    def clean(self) -> None:
        """Check that the path is absolute."""
        validate_absolute_path(self.path, "path")

    def run(self) -> Reading:
        """Ask the file system. A file server that hangs counts as no response."""
        facts = call_with_timeout(os.statvfs, self.path)
        if self.measure == "inodes_percent_used":
            if not facts.f_files:
                raise ProbeError(f"The file system of {self.path} does not report inodes.")
            used = facts.f_files - facts.f_ffree
            return Reading(
                100 * used / (used + facts.f_favail or 1),
                f"{used} of {facts.f_files} inodes of {self.path} are used",
            )
        if not facts.f_blocks:
            raise ProbeError(f"The file system of {self.path} reports no size.")
        # Like df: space reserved for root counts as neither used nor free.
        free = facts.f_bavail * facts.f_frsize
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        percent = 100 * used / (used + free or 1)
        total = _format_size(facts.f_blocks * facts.f_frsize)
        message = f"{_format_size(free)} of {total} free on {self.path}"
        if self.measure == "free_bytes":
            return Reading(free, message, BYTES)
        return Reading(percent if self.measure == "percent_used" else 100 - percent, message)


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryProbe(BaseProbe):
    """The memory of the host."""

    kind: ClassVar[str] = "memory"
    label: ClassVar[str] = "Memory"
    description: ClassVar[str] = "Used or available memory of the host."
    unit: ClassVar[str] = PERCENT

    measure: str = param(
        "percent_used",
        label="Measure",
        help="Available memory includes caches that the kernel can drop.",
        choices=(("percent_used", "Used, percent"), ("available_bytes", "Available, bytes")),
    )

    def run(self) -> Reading:
        """Read /proc/meminfo."""
        facts = psutil.virtual_memory()
        message = f"{_format_size(facts.available)} of {_format_size(facts.total)} available"
        if self.measure == "available_bytes":
            return Reading(facts.available, message, BYTES)
        return Reading(100 * (1 - facts.available / facts.total), message)


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class SwapProbe(BaseProbe):
    """The swap of the host."""

    kind: ClassVar[str] = "swap"
    label: ClassVar[str] = "Swap"
    description: ClassVar[str] = "Used swap of the host; 0 if it has none."
    unit: ClassVar[str] = PERCENT

    measure: str = param(
        "percent_used",
        label="Measure",
        choices=(("percent_used", "Used, percent"), ("used_bytes", "Used, bytes")),
    )

    def run(self) -> Reading:
        """Read /proc/meminfo."""
        facts = psutil.swap_memory()
        message = f"{_format_size(facts.used)} of {_format_size(facts.total)} used"
        if not facts.total:
            message = "this host has no swap"
        if self.measure == "used_bytes":
            return Reading(facts.used, message, BYTES)
        return Reading(100 * facts.used / facts.total if facts.total else 0.0, message)


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProbe(BaseProbe):
    """The load average of the host."""

    kind: ClassVar[str] = "load"
    label: ClassVar[str] = "Load"
    description: ClassVar[str] = "Load average per core. Above 1, processes wait for a core."
    unit: ClassVar[str] = "per core"

    minutes: str = param(
        "5",
        label="Minutes",
        help="Period of the average.",
        choices=(("1", "1"), ("5", "5"), ("15", "15")),
    )

    def run(self) -> Reading:
        """Read /proc/loadavg."""
        load = os.getloadavg()[("1", "5", "15").index(self.minutes)]
        cores = os.cpu_count() or 1
        return Reading(load / cores, f"load {load:.2f} over {self.minutes} min on {cores} cores")


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class CpuProbe(BaseProbe):
    """The CPU usage of the host."""

    kind: ClassVar[str] = "cpu"
    label: ClassVar[str] = "CPU"
    description: ClassVar[str] = "CPU usage of the host, over all cores."
    unit: ClassVar[str] = PERCENT

    seconds: float = param(
        1.0, label="Seconds", help="Length of the measurement.", minimum=0.1, maximum=30
    )

    def run(self) -> Reading:
        """Compare the kernel's CPU counters before and after."""
        if self.seconds >= remaining_seconds():
            raise ProbeError(
                f"A measurement of {self.seconds:g} s does not fit into the time limit. Raise the "
                "timeout of the monitor, or measure for fewer seconds."
            )
        percent = psutil.cpu_percent(interval=self.seconds)
        return Reading(percent, f"over {self.seconds:g} s on {os.cpu_count()} cores")
