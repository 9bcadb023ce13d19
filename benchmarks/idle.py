"""A tick on which nothing is due, with few and with very many jobs."""

from __future__ import annotations

from collections.abc import Callable

from . import databases
from .databases import BenchmarkDatabase
from .figures import SCALE_RUN, Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import CONSOLE_SCRIPT, EMPTY_PROGRAM, MANAGE_CRON, ProcessCost, measure_process

NOTE = (
    "a new process of a tick on which nothing is due (`manage.py cron`, and `chroniker` as in a "
    "crontab), from the end of django.setup() to the end of the command, after ANALYZE. The exit "
    "of the interpreter is a separate line, compared with a process that only sets up Django. The "
    "wall time with many jobs is compared with that of 10 in another database, alternately; the "
    "number of queries must be the same. --scale takes 1,000,000 jobs."
)
RUN_ONCE = False
FEW, MANY, SCALE = 10, 100_000, 1_000_000
ROUNDS = 5
PAIRS = 11
CPU = Limit(20)
QUERIES = Limit(4)
SAME = Limit(1.2)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """CPU, wall time and queries."""
    many = SCALE if SCALE_RUN.get() else MANY
    with databases.fresh(database.backend, "_few") as small:
        small.call(prepare, jobs=FEW)
        database.call(prepare, jobs=many)
        found = _measure_few(small)
        small_turns, large_turns = [], []
        for _ in range(PAIRS):
            small_turns.append(_measure_tick(small))
            large_turns.append(_measure_tick(database))
        cpu = [turn.cpu for turn in large_turns]
        pairs = [
            PairedValue(large.wall, few.wall)
            for large, few in zip(large_turns, small_turns, strict=True)
        ]
        queries = small.call(count_queries)
        return [
            *found,
            median_figure(f"{many:,} jobs, beyond django.setup(): CPU", "ms", cpu, CPU),
            compare_with_floor(f"  against {FEW} jobs: wall", "ms", pairs, SAME),
            Figure(f"queries, {FEW} jobs", queries, limit=QUERIES),
            Figure(f"queries, {many:,} jobs", database.call(count_queries), limit=Limit(queries)),
        ]


def _measure_few(small: BenchmarkDatabase) -> list[Figure]:
    rounds = small.call(measure_rounds, codes=[MANAGE_CRON, EMPTY_PROGRAM, CONSOLE_SCRIPT])
    turns = [[ProcessCost(*numbers) for numbers in turn] for turn in rounds]
    exits = [PairedValue(turn[0].exit_cpu, turn[1].exit_cpu) for turn in turns]
    cpu, script = ([turn[column].cpu for turn in turns] for column in (0, 2))
    return [
        median_figure(f"{FEW} jobs, beyond django.setup(): CPU", "ms", cpu, CPU),
        compare_with_floor("  and then the exit: CPU", "ms", exits),
        median_figure("  the program chroniker, the same: CPU", "ms", script),
    ]


def _measure_tick(database: BenchmarkDatabase) -> ProcessCost:
    return ProcessCost(*database.call(measure_rounds, codes=[MANAGE_CRON], rounds=1)[0][0])


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


def measure_rounds(codes: list[str], rounds: int = ROUNDS) -> list[list[list[float]]]:
    """Return the cost of each program in each round."""
    return [[measure_process(code).numbers for code in codes] for _ in range(rounds)]
