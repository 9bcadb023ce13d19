"""Times in which the machine, and not the product, kept processes from working.

The simulated hosts share one machine, and their leases last a few seconds. A tick that gets no CPU
for two seconds loses its runs; that is correct, and no fault was injected. So stalls are measured
where the product has no part in them:

- In each tick, by the time that the kernel let it wait for a CPU although it could have run. A tick
  that sleeps, or that waits for a lock or an answer, does not wait for a CPU.
- In a bystander, which does nothing but a fixed piece of work and a trivial query, five times a
  second.

A stall excuses what a fault on that host, or on all hosts, would excuse: lost runs, and slow ends
of processes. It excuses no overlap, no slot without an outcome and no wrong counter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
from pathlib import Path

from django.db import Error, connections

from tests.faults import site
from tests.faults.journal import Journal, boottime

STALL_SECONDS = 0.3
"""The shortest stall that is recorded."""
_WINDOW_SECONDS = 1.0
"""Many short stalls within this time count as one."""
_PAUSE_SECONDS = 0.2
_WORK = b"\0" * (1 << 20)


def cpu_wait_seconds(pid: int | str = "self") -> float:
    """How long the kernel has let a process wait for a CPU, since it began: proc(5), schedstat."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


class StallRecorder:
    """Records the stalls of a tick; :meth:`note_pass` is called in each pass of its loop."""

    def __init__(self, journal: Journal, host: str) -> None:
        self._journal = journal
        self._host = host
        self._began = boottime()
        self._waited = cpu_wait_seconds()

    def note_pass(self) -> None:
        waited, now = cpu_wait_seconds(), boottime()
        stalled = waited - self._waited
        if stalled < STALL_SECONDS and now - self._began < _WINDOW_SECONDS:
            return
        if stalled >= STALL_SECONDS:
            self._journal.write("stall", host=self._host, begin=self._began, seconds=stalled)
        self._began, self._waited = now, waited


def _work() -> None:
    """A few milliseconds of computing, and a query that waits for nobody."""
    hashlib.sha256(_WORK).digest()
    if site.connection.vendor == "sqlite":
        return
    try:
        with site.connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:  # the server was crashed, or the session was terminated: that is a fault
        site.connection.close()


def measure_load(seconds: float = 0.3) -> float:
    """How many times as long as its CPU time a computation takes now; 1 on an idle machine."""
    began, used = boottime(), time.process_time()
    while time.process_time() < used + seconds:
        hashlib.sha256(_WORK).digest()
    return max(1.0, (boottime() - began) / seconds)


class Bystander:
    """A process that measures how busy the machine is until it is stopped."""

    def __init__(self, journal: Journal) -> None:
        connections.close_all()
        self.pid = os.fork()
        if self.pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            while True:
                began = boottime()
                time.sleep(_PAUSE_SECONDS)
                _work()
                if (late := boottime() - began - _PAUSE_SECONDS) >= STALL_SECONDS:
                    journal.write("stall", host="", begin=began, seconds=late)
        finally:
            os._exit(1)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
