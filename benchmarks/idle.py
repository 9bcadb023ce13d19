"""A tick on which nothing is due, with few and with very many jobs."""

from __future__ import annotations

from collections.abc import Callable

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import CONSOLE_SCRIPT, EMPTY_PROGRAM, MANAGE_CRON, ProcessCost, measure_process

NOTE = (
    "a new process of a tick on which nothing is due (`manage.py cron`, and `chroniker` as in a "
    "crontab), from the end of django.setup() to the end of the command. The exit of the "
    "interpreter is a separate line, compared with a process that only sets up Django. The number "
    "of queries must be the same with 100,000 jobs as with 10."
)
RUN_ONCE = False
FEW, MANY = 10, 100_000
ROUNDS = 5
CPU = Limit(20)
QUERIES = Limit(4)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """CPU and queries."""
    found = []
    queries = {}
    for jobs in (FEW, MANY):
        database.call(prepare, jobs=jobs)
        queries[jobs] = database.call(count_queries)
        codes = (
            [MANAGE_CRON, EMPTY_PROGRAM, CONSOLE_SCRIPT]
            if jobs == FEW
            else [MANAGE_CRON, EMPTY_PROGRAM]
        )
        rounds = database.call(measure_rounds, codes=codes)
        turns = [[ProcessCost(*numbers) for numbers in turn] for turn in rounds]
        cpu = [turn[0].cpu for turn in turns]
        found.append(median_figure(f"{jobs:,} jobs, beyond django.setup(): CPU", "ms", cpu, CPU))
        if jobs == FEW:
            exits = [PairedValue(turn[0].exit_cpu, turn[1].exit_cpu) for turn in turns]
            cpu = [turn[2].cpu for turn in turns]
            found.append(compare_with_floor("  and then the exit: CPU", "ms", exits))
            found.append(median_figure("  the program chroniker, the same: CPU", "ms", cpu))
    return [
        *found,
        Figure(f"queries, {FEW} jobs", queries[FEW], limit=QUERIES),
        Figure(f"queries, {MANY:,} jobs", queries[MANY], limit=Limit(queries[FEW])),
    ]


# --- in a worker ----------------------------------------------------------------------------


def prepare(jobs: int) -> None:
    """Create jobs that are planned for next year."""
    from .jobs import bulk_add_jobs

    databases.empty()
    bulk_add_jobs(jobs)


def count_queries() -> int:
    """Return how many statements a tick sends over an open connection."""
    from django.db import connection

    from chroniker.engine.scheduler import Scheduler

    sent = 0

    def count(execute: Callable[..., object], *statement: object) -> object:
        nonlocal sent
        sent += 1
        return execute(*statement)

    connection.ensure_connection()
    with connection.execute_wrapper(count):
        Scheduler().run()
    return sent


def measure_rounds(codes: list[str]) -> list[list[list[float]]]:
    """Return the cost of each program in each round."""
    return [[measure_process(code).numbers for code in codes] for _ in range(ROUNDS)]
