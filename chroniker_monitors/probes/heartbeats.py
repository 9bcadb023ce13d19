"""Heartbeats: outside jobs that ping after each run, and are late if they do not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading
from .params import param
from .registry import register_probe


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatProbe(BaseProbe):
    """A job outside Django that fetches a URL after each run."""

    kind: ClassVar[str] = "heartbeat"
    label: ClassVar[str] = "Heartbeat"
    description: ClassVar[str] = (
        "Seconds for which a ping has been due. Passive: an outside job fetches the monitor's URL."
    )
    unit: ClassVar[str] = "seconds"
    passive: ClassVar[bool] = True

    period_seconds: float = param(
        86400.0, label="Period, seconds", help="Time between two pings.", minimum=1
    )
    grace_seconds: float = param(
        3600.0, label="Grace, seconds", help="How late a ping may be.", minimum=0
    )

    def run(self) -> Reading:
        """Raise ProbeError: a heartbeat is passive."""
        raise ProbeError("A heartbeat is measured when pings arrive. It cannot be run.")
