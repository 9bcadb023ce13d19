"""A job that prints many lines."""

from __future__ import annotations

import fcntl
import os
import sys

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor
from .workers import Stopwatch

NOTE = (
    "a tick with one job that calls print() for each of 500,000 lines, none of which is lost if "
    "the job is killed, against a bare reader of a fork that does the same with Python's buffer of "
    "8 KiB, in which killed processes lose what they have printed."
)
RUN_ONCE = True
LINES = 500_000
ROUNDS = 7
RATIO = Limit(2.0)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure wall time and CPU of all processes."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        tick = database.call(time_tick, lines=LINES)
        floor = database.call(time_reader, lines=LINES)
        wall.append(PairedValue(tick["wall"] * 1e6 / LINES, floor["wall"] * 1e6 / LINES))
        cpu.append(PairedValue(tick["cpu"] * 1e6 / LINES, floor["cpu"] * 1e6 / LINES))
    return [
        compare_with_floor("print() of a line: wall", "µs", wall, RATIO),
        compare_with_floor("  CPU of all processes", "µs", cpu),
    ]


# --- in a worker ----------------------------------------------------------------------------


def time_tick(lines: int) -> dict[str, float]:
    """Return seconds of a tick with one job that prints this many lines."""
    from chroniker.engine.entrypoints import run_single_tick
    from chroniker.models import OutputChunk

    from .jobs import add_jobs, expect_success, make_due

    databases.empty()
    add_jobs(1, "print_lines", str(lines))
    make_due()
    with Stopwatch() as clock:
        run_single_tick()
    expect_success(1)
    last = OutputChunk.objects.order_by("-offset")[0]
    if not last.text.endswith(f"\nline {lines - 1} of the report, with a few words in it\n"):
        raise RuntimeError("the last line of the output was not stored")
    return {"wall": clock.wall, "cpu": clock.cpu}


def time_reader(lines: int) -> dict[str, float]:
    """Return the seconds that a process takes to read the same lines from a pipe and drop them."""
    from django.core.management import call_command

    from chroniker.processes.supervisor import _PIPE_BYTES, _READ_BYTES

    with Stopwatch() as clock:
        ours, theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(theirs, 1)
                sys.stdout = open(1, "w", buffering=8192, closefd=False)  # noqa: SIM115
                call_command("print_lines", str(lines))
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(theirs)
        while os.read(ours, _READ_BYTES):
            pass
        os.waitpid(pid, 0)
    return {"wall": clock.wall, "cpu": clock.cpu}
