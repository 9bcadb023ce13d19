"""One due job that does nothing: what its tick costs beyond Python and Django."""

from __future__ import annotations

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import MANAGE_CRON, EMPTY_PROGRAM, ProcessCost, measure_process

NOTE = (
    "a fresh process of `manage.py cron` with one due no-op job, from the end of django.setup() "
    "to the end of the command, in which the job has run and its end is stored. Leaving the "
    "interpreter, which every Django process has to do, is a line of its own, against a process "
    "that has only set up Django."
)
RUN_ONCE = False
ROUNDS = 7
WALL = Limit(150)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Wall and CPU of the command, and its exit."""
    turns = [(ProcessCost(*tick), ProcessCost(*floor)) for tick, floor in database.call(measure_rounds)]
    exits = [PairedValue(tick.exit_wall, floor.exit_wall) for tick, floor in turns]
    return [
        median_figure("one job beyond django.setup(): wall", "ms", [t.wall for t, _ in turns], WALL),
        median_figure("  CPU of all processes", "ms", [t.cpu for t, _ in turns]),
        compare_with_floor("  and then the exit: wall", "ms", exits),
    ]


# --- in a worker ----------------------------------------------------------------------------


def measure_rounds() -> list[tuple[list[float], list[float]]]:
    """What ticks with one due job spent, each with what its floor did."""
    from .jobs import add_jobs, expect_success, make_due

    databases.empty()
    add_jobs(1)
    found = []
    for _ in range(ROUNDS):
        make_due()
        floor = measure_process(EMPTY_PROGRAM)
        tick = measure_process(MANAGE_CRON)
        expect_success(1)
        found.append((tick.numbers, floor.numbers))
    return found
