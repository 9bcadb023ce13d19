"""A tick on which nothing is due, with few jobs and with very many."""

from __future__ import annotations

from typing import Any

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import CONSOLE_SCRIPT, MANAGE_CRON, EMPTY_PROGRAM, ProcessCost, measure_process

NOTE = (
    "a fresh process of a tick on which nothing is due (`manage.py cron`, and `chroniker`, as the "
    "cron line has it), from the end of django.setup() to the end of the command; leaving the "
    "interpreter is a line of its own, against a process that has only set up Django. And the "
    "tick's queries, which have to be as many with 100,000 jobs as with 10."
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
        codes = [MANAGE_CRON, EMPTY_PROGRAM, CONSOLE_SCRIPT] if jobs == FEW else [MANAGE_CRON, EMPTY_PROGRAM]
        taken = database.call(measure_rounds, codes=codes)
        turns = [[ProcessCost(*numbers) for numbers in turn] for turn in taken]
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
    """So many jobs, planned for next year."""
    from .jobs import bulk_add_jobs

    databases.empty()
    bulk_add_jobs(jobs)


def count_queries() -> int:
    """How many statements a tick sends over a connection that is open."""
    from django.db import connection

    from chroniker.engine.scheduler import Scheduler

    sent = 0

    def count(execute: Any, *statement: Any) -> Any:
        nonlocal sent
        sent += 1
        return execute(*statement)

    connection.ensure_connection()
    with connection.execute_wrapper(count):
        Scheduler().run()
    return sent


def measure_rounds(codes: list[str]) -> list[list[list[float]]]:
    """What each program spent, round by round."""
    return [[measure_process(code).numbers for code in codes] for _ in range(ROUNDS)]
