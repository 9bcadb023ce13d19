"""Fresh processes: each measurement has a Python of its own, with Django set up."""

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
    """What ``function`` returns when it is called in a new process with that environment.

    Arguments and result travel as JSON. Raises RuntimeError where it failed; what it said is on
    stderr by then.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    site = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.settings", **environ}
    site.pop("PYTHONDONTWRITEBYTECODE", None)  # no site compiles its source at each tick
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.workers", name, json.dumps(arguments)],
        env=site,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} ended with exit code {done.returncode}")
    return json.loads(done.stdout)


def _serve(name: str, arguments: str) -> None:
    import django

    django.setup()
    module, _, function = name.partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    sys.stdout.write(json.dumps(result))


class Stopwatch:
    """Seconds of wall and of CPU; CPU also of every process that was started meanwhile.

    Orphans fall to this process (prctl(2)), so the CPU of those that their own parents did not
    wait for is counted, too. They are waited for after the wall's clock has stopped.
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
    """What a process cost once Django was set up, milliseconds, its exit apart."""

    wall: float
    cpu: float
    exit_wall: float
    exit_cpu: float

    @property
    def numbers(self) -> list[float]:
        """For JSON."""
        return list(astuple(self))


EMPTY_PROGRAM = "pass"
"""The floor of every command: Python and Django, and then nothing."""
MANAGE_CRON = "from django.core.management import *; execute_from_command_line(['manage.py', 'cron'])"
CONSOLE_SCRIPT = "import chroniker.cli; chroniker.cli.main([])"
"""The program that the cron line names."""
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
    """What a fresh Python spends on ``code`` once Django is set up.

    Not the difference of two whole processes: where one start and end of Django takes 50 ms more
    than the next, that says nothing. Raises RuntimeError where it fails.
    """
    program = [sys.executable, "-c", _PROGRAM.format(code)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        said = process.stdout.read().split()
    _, status, usage = os.wait4(process.pid, 0)
    ended = time.perf_counter()  # the same clock in all processes: CLOCK_MONOTONIC
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or len(said) != 4:
        raise RuntimeError(f"{code} ended with exit code {process.returncode}: {said}")
    began, cpu_before, returned, cpu_then = map(float, said)
    cpu = usage.ru_utime + usage.ru_stime
    seconds = returned - began, cpu_then - cpu_before, ended - returned, cpu - cpu_then
    return ProcessCost(*(1e3 * number for number in seconds))


if __name__ == "__main__":
    _serve(*sys.argv[1:])
