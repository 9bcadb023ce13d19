"""A probe that reads its value from a file."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chroniker_monitors.probes import BaseProbe, Reading, param, register_probe


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge(BaseProbe):
    """Reads a number from a file, or performs the action written there."""

    kind: ClassVar[str] = "test_gauge"
    label: ClassVar[str] = "Gauge"
    description: ClassVar[str] = "A number in a file."
    unit: ClassVar[str] = "V"
    path: str = param(label="path", help="of a file that holds a number")

    def run(self) -> Reading:
        word, _, rest = Path(self.path).read_text().partition(" ")
        match word:
            case "sleep":
                time.sleep(float(rest))
                return Reading(0, "slept")
            case "raise":
                raise RuntimeError(rest)
            case "interrupt":
                raise KeyboardInterrupt
            case "leave_process":
                if os.fork() == 0:
                    time.sleep(float(rest))
                    os._exit(0)
                return Reading(0, "left a process behind")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "flood":
                for _ in range(int(rest)):
                    os.write(2, b"x" * 1024 * 1024)
                return Reading(0, "said a lot")
            case "exit":
                sys.stdout.flush()
                os._exit(int(rest))
        return Reading(float(word), rest)
