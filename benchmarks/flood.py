"""A job that prints a gigabyte."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor
from .workers import Stopwatch

NOTE = (
    "a tick with one job that prints 1 GiB of lines, without a newline (solid), or of NUL and "
    "invalid UTF-8 (binary), against a bare reader: a fork that writes the same, and os.read in a "
    "loop. "
    "The reader's pipe is as large as the one that the tick uses (1 MiB); with a pipe of the "
    "default 64 KiB it is slower. Memory is the peak of the tick's own process minus its memory "
    "at the start."
)
RUN_ONCE = False
KINDS = ("lines", "solid", "binary")
"""Arguments of ``act flood``."""
MEGABYTES = 1024
ROUNDS = 3
WALL = Limit(3.0)
MEMORY = Limit(64)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure wall time, CPU and memory for each kind."""
    found = []
    for kind in KINDS:
        wall, cpu, grown = [], [], []
        for _ in range(ROUNDS):
            tick = database.call(time_tick, megabytes=MEGABYTES, kind=kind)
            floor = database.call(time_reader, megabytes=MEGABYTES, kind=kind)
            wall.append(PairedValue(tick["wall"], floor["wall"]))
            cpu.append(PairedValue(tick["cpu"], floor["cpu"]))
            grown.append(tick["grown"] / 2**20)
        found += [
            compare_with_floor(f"1 GiB of {kind}: wall", "s", wall, WALL),
            compare_with_floor("  CPU of all processes", "s", cpu),
            Figure("  growth of the tick's memory", max(grown), "MiB", limit=MEMORY),
        ]
    return found


# --- in a worker ----------------------------------------------------------------------------


def time_tick(megabytes: int, kind: str) -> dict[str, float]:
    """Return seconds and bytes of a tick with one job that prints this much."""
    from chroniker.engine.entrypoints import run_single_tick
    from chroniker.models import OutputChunk, Run

    from .jobs import add_jobs, expect_success, make_due

    databases.empty()
    add_jobs(1, "act", f"flood {megabytes} {kind}")
    make_due()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak (proc(5))
    before = _memory("VmRSS")
    with Stopwatch() as clock:
        run_single_tick()
    grown = _memory("VmHWM") - before
    expect_success(1)
    texts = list(OutputChunk.objects.order_by("offset").values_list("text", flat=True))
    if not texts[0].startswith("HEAD\n") or not texts[-1].endswith("\nTAIL\n"):
        raise RuntimeError("head or tail of the output was not stored")
    if Run.objects.get().stdout_bytes != megabytes * 2**20 + len("HEAD\n\nTAIL\n"):
        raise RuntimeError("not all of the output was read")
    return {"wall": clock.wall, "cpu": clock.cpu, "grown": grown}


def time_reader(megabytes: int, kind: str) -> dict[str, float]:
    """Return the seconds that a process takes to read the same output from a pipe and drop it."""
    from django.core.management import call_command

    from chroniker.processes.supervisor import _PIPE_BYTES, _READ_BYTES

    with Stopwatch() as clock:
        ours, theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(theirs, 1)
                call_command("act", "flood", str(megabytes), kind)
            finally:
                os._exit(0)
        os.close(theirs)
        while os.read(ours, _READ_BYTES):
            pass
        os.waitpid(pid, 0)
    return {"wall": clock.wall, "cpu": clock.cpu}


def _memory(name: str) -> int:
    """Return bytes of resident memory of this process."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
