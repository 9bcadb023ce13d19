"""100 due no-op jobs in one tick."""

from __future__ import annotations

import os
import resource
import tempfile
from statistics import median
from typing import Any, NoReturn

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor
from .workers import Stopwatch

NOTE = (
    "100 due no-op jobs in one tick, against fork and call_command('noop') 100 times, one after "
    "the other, in such a process; CPU is that of all processes except the database server."
)
JOBS = 100
RUN_ONCE = False
ROUNDS = 5
ROLE_ROUNDS = 2
WALL = Limit(2.0)
ROLES = ("tick", "forkserver", "warden", "job")


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure wall time and CPU, and the CPU of each kind of process."""
    database.call(prepare, jobs=JOBS)
    wall, cpu = [], []
    for _ in range(ROUNDS):
        tick = database.call(time_tick, jobs=JOBS)
        floor = database.call(time_forks, jobs=JOBS)
        wall.append(PairedValue(tick["wall"] * 1e3 / JOBS, floor["wall"] * 1e3 / JOBS))
        cpu.append(PairedValue(tick["cpu"] * 1e3 / JOBS, floor["cpu"] * 1e3 / JOBS))
    roles = [database.call(cpu_by_role, jobs=JOBS) for _ in range(ROLE_ROUNDS)]
    return [
        compare_with_floor("a no-op job: wall", "ms", wall, WALL),
        compare_with_floor("a no-op job: CPU", "ms", cpu),
        *(
            Figure(f"  of which {role}", median(spent[role] for spent in roles), "ms")
            for role in ROLES
        ),
    ]


# --- in a worker ----------------------------------------------------------------------------


def prepare(jobs: int) -> None:
    """Create the jobs."""
    from .jobs import add_jobs

    databases.empty()
    add_jobs(jobs)


def time_tick(jobs: int) -> dict[str, float]:
    """Return seconds of a tick on which all jobs are due."""
    from django.core.management import call_command
    from django.db import connections

    from .jobs import expect_success, make_due

    make_due()
    connections.close_all()
    with Stopwatch() as clock:
        call_command("cron")
    expect_success(jobs)
    return {"wall": clock.wall, "cpu": clock.cpu}


def time_forks(jobs: int) -> dict[str, float]:
    """Return seconds of the minimum: fork and run the command, without anything else."""
    from django.core.management import call_command

    with Stopwatch() as clock:
        for _ in range(jobs):
            pid = os.fork()
            if pid == 0:
                try:
                    call_command("noop")
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
    return {"wall": clock.wall, "cpu": clock.cpu}


def cpu_by_role(jobs: int) -> dict[str, float]:
    """Return milliseconds of CPU for one job, by the kind of process.

    Every process of Chroniker ends with ``os._exit``; here it writes its usage to a file first.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        real_exit = os._exit

        def record_usage_and_exit(code: int) -> NoReturn:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            line = f"{os.getpid()} {os.getppid()} {usage.ru_utime + usage.ru_stime}\n"
            os.write(file.fileno(), line.encode())
            real_exit(code)

        patched: Any = os
        patched._exit = record_usage_and_exit
        spent = dict.fromkeys(ROLES, 0.0)
        spent["tick"] = _scheduler_cpu(jobs)
        file.seek(0)
        records = [line.split() for line in file.read().decode().splitlines()]
    parents = {pid: parent for pid, parent, _ in records}
    for pid, _, seconds in records:
        depth, ancestor = 1, parents[pid]
        while ancestor in parents:
            depth, ancestor = depth + 1, parents[ancestor]
        spent[ROLES[depth]] += float(seconds)
    return {role: seconds * 1e3 / jobs for role, seconds in spent.items()}


def _scheduler_cpu(jobs: int) -> float:
    from django.core.management import call_command
    from django.db import connections

    from .jobs import expect_success, make_due

    make_due()
    connections.close_all()
    with Stopwatch() as clock:
        call_command("cron")
    expect_success(jobs)
    return clock.cpu_self
