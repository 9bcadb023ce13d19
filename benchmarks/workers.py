"""New processes for measurements, each with its own Python and Django."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36


def call(function: Callable[..., Any], environ: Mapping[str, str], **arguments: Any) -> Any:
    """Call ``function`` in a new process with this environment and return its result.

    Arguments and result are passed as JSON. Raises RuntimeError if it fails; its error is printed
    to stderr.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.workers", name, json.dumps(arguments)],
        env=site_environ(environ),
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def site_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process of the measured site."""
    site = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.settings", **environ}
    site.pop("PYTHONDONTWRITEBYTECODE", None)  # a site does not compile its source at each tick
    return site


def _serve(name: str, arguments: str) -> None:
    import django

    django.setup()
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    sys.stdout.write(json.dumps(result))


class Stopwatch:
    """Seconds of wall time and of CPU; CPU includes every process that was started meanwhile.

    This process becomes the parent of orphans (prctl(2)), so their CPU is counted too. It waits
    for them after the wall time was taken.
    """

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu_self = 0.0
        self.cpu_children = 0.0

    @property
    def cpu(self) -> float:
        return self.cpu_self + self.cpu_children

    def __enter__(self) -> Stopwatch:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._before = _cpu(resource.RUSAGE_SELF), _cpu(resource.RUSAGE_CHILDREN)
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began
        self.cpu_self = _cpu(resource.RUSAGE_SELF) - self._before[0]
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        self.cpu_children = _cpu(resource.RUSAGE_CHILDREN) - self._before[1]


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """The cost of a process after django.setup(), and the cost of its exit, milliseconds."""

    wall: float
    cpu: float
    exit_wall: float
    exit_cpu: float

    @property
    def numbers(self) -> list[float]:
        """The numbers as a list, for JSON."""
        return list(astuple(self))


EMPTY_PROGRAM = "pass"
"""The floor of every command: only Python and Django."""
MANAGE_CRON = (
    "from django.core.management import *; execute_from_command_line(['manage.py', 'cron'])"
)
CONSOLE_SCRIPT = "import chroniker.cli; chroniker.cli.main([])"
"""The program for a crontab."""
_PROGRAM = """
import resource, time, django
def note():
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used), flush=True)
django.setup()
note()
try:
    {}
finally:
    note()
"""


def measure_process(code: str) -> ProcessCost:
    """Return the cost of ``code`` in a new Python process after django.setup().

    It is not the difference of two whole processes, because the start and exit of Django vary by
    50 ms. Raises RuntimeError if the process fails.
    """
    program = [sys.executable, "-c", _PROGRAM.format(code)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        printed = process.stdout.read().split()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.perf_counter()  # the same clock in all processes: CLOCK_MONOTONIC
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(printed) != 4:
        raise RuntimeError(f"{code} ended with exit code {process.returncode}: {printed}")
    began, cpu_before, returned, cpu_then = map(float, printed)
    cpu = usage.ru_utime + usage.ru_stime
    seconds = returned - began, cpu_then - cpu_before, ended - returned, cpu - cpu_then
    return ProcessCost(*(1e3 * number for number in seconds))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
