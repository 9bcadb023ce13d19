"""A `cronserver` that ticks each second: how soon it starts what is due, and what it costs idle."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure

NOTE = (
    "`manage.py cronserver 1`. The time from the commit of a request for a run (by another "
    "process, at any moment of the second) to the first line of the job, and from the last line of "
    "a job to the first line of the job that waits for it, against a resident process that waits "
    "at a pipe, forks and calls the same command. Then CPU and memory (PSS of the process, after "
    "a job has run) while nothing is due."
)
RUN_ONCE = False
ROUNDS = 15
IDLE_SECONDS = 15
LATENCY = Limit(100)
MEMORY = Limit(35)
_TIMEOUT = 20.0
_CRONSERVER = (
    "import django; django.setup()\n"
    "from django.core.management import execute_from_command_line\n"
    "execute_from_command_line(['manage.py', 'cronserver', '1'])"
)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the time to the first line, CPU and memory."""
    found = database.call(measure_server)
    requested = [PairedValue(*pair) for pair in found["requested"]]
    return [
        compare_with_floor(
            "a requested run: to its first line", "ms", requested, LATENCY, of_value=True
        ),
        median_figure("  the longest", "ms", [max(pair.value for pair in requested)]),
        median_figure("a run that waits: to its first line", "ms", found["dependent"], LATENCY),
        Figure("idle: CPU in a second", found["idle_cpu"], "ms"),
        Figure("idle: memory (PSS)", found["pss"], "MB", limit=MEMORY),
    ]


# --- in a worker ----------------------------------------------------------------------------


def measure_server() -> dict[str, object]:
    """Return milliseconds of starts, of CPU in an idle second, and megabytes."""
    from chroniker.models import Job, JobDependency, JobState

    databases.empty()
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        upstream = Job.objects.create(name="first", command="note_time", args=str(first))
        downstream = Job.objects.create(name="second", command="note_time", args=str(second))
        JobDependency.objects.create(upstream=upstream, downstream=downstream)
        with _cronserver() as pid, _resident() as floor:
            _wait(lambda: JobState.objects.count() == 2)
            requested, dependent = [], []
            for number in range(ROUNDS + 1):
                time.sleep(1 + random.random())
                began = time.monotonic()
                JobState.objects.filter(job=upstream).request_run()
                _wait(partial(_has_lines, second, number + 1))
                started, followed = (_times_of(path)[-1] for path in (first, second))
                if number:  # the first one forks the fork server
                    requested.append((1e3 * (started - began), floor(Path(folder, "floor"))))
                    dependent.append(1e3 * (followed - started))
            time.sleep(3)
            before = _cpu_seconds(pid)
            time.sleep(IDLE_SECONDS)
            idle = 1e3 * (_cpu_seconds(pid) - before) / IDLE_SECONDS
            pss = _pss_megabytes(pid)
    return {"requested": requested, "dependent": dependent, "idle_cpu": idle, "pss": pss}


@contextmanager
def _cronserver() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", _CRONSERVER], stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


@contextmanager
def _resident() -> Iterator[Callable[[Path], float]]:
    """A process that forks and calls the command for each line that it reads from a pipe."""
    from django.core.management import call_command
    from django.db import connections

    connections.close_all()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                if os.fork() == 0:
                    call_command("note_time", line.strip())
                    os._exit(0)
                os.wait()
        os._exit(0)
    os.close(reader)

    def measure(path: Path) -> float:
        path.unlink(missing_ok=True)
        began = time.monotonic()
        os.write(writer, f"{path}\n".encode())
        _wait(partial(_has_lines, path, 1))
        return 1e3 * (_times_of(path)[0] - began)

    yield measure
    os.close(writer)
    os.waitpid(pid, 0)


def _has_lines(path: Path, number: int) -> bool:
    return len(_times_of(path)) >= number


def _times_of(path: Path) -> list[float]:
    text = path.read_text() if path.exists() else ""
    return [float(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the cronserver did not do it in time")
        time.sleep(0.005)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_megabytes(pid: int) -> float:
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found
    return int(found[1]) / 1024
