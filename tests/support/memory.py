"""``python -m tests.support.memory TICKS``: a cronserver at full speed, and its memory.

Prints one JSON line: what it has done and used, at some moments of that many ticks. They begin when
everything has happened once: what the first failure imports is no leak.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from chroniker.models import Run


@dataclass(frozen=True, slots=True)
class Usage:
    ticks: int
    runs: int
    resident_bytes: int
    blocks: int
    """Objects that the interpreter's allocator holds: exact, where pages are not."""


def measure(ticks: int, runs: int) -> Usage:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return Usage(ticks, runs, pages * resource.getpagesize(), sys.getallocatedblocks())


class Meter:
    """Measures at even distances, and stops the loop after the last one."""

    SAMPLES = 8
    WARM_UP_TICKS = 100
    """After the first run that has failed."""

    def __init__(self, ticks: int) -> None:
        from chroniker.signals import run_finished, tick_finished

        self.step = max(1, ticks // self.SAMPLES)
        self.ticks = self.runs = 0
        self.started_at: int | None = None
        """The tick from which on it measures."""
        self.usages: list[Usage] = []
        tick_finished.connect(self._count_tick)
        run_finished.connect(self._count_run)

    def _count_tick(self, **kwargs: object) -> None:
        self.ticks += 1

    def _count_run(self, run: Run, **kwargs: object) -> None:
        self.runs += 1
        if run.status == "failed" and self.started_at is None:
            self.started_at = self.ticks + self.WARM_UP_TICKS

    def note_pass(self) -> None:
        number = len(self.usages)
        if self.started_at is None or number == self.SAMPLES:
            return
        if self.ticks >= self.started_at + self.step * number:
            self.usages.append(measure(self.ticks, self.runs))
            if number + 1 == self.SAMPLES:
                os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    django.setup()
    from chroniker.engine.scheduler import Scheduler

    meter = Meter(int(sys.argv[1]))
    began = time.monotonic()
    Scheduler(every=0.001, on_pass=meter.note_pass).run()
    print(json.dumps([*map(asdict, meter.usages), {"seconds": time.monotonic() - began}]))


if __name__ == "__main__":
    main()
