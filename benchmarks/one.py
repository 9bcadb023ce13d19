"""One due no-op job: the cost of its tick without the start of Python and Django."""

from __future__ import annotations

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .workers import EMPTY_PROGRAM, MANAGE_CRON, ProcessCost, measure_process

NOTE = (
    "a new process of `manage.py cron` with one due no-op job, from the end of django.setup() to "
    "the end of the command, when the job has run and its end is stored. The exit of the "
    "interpreter, which every Django process has, is a separate line, compared with a process "
    "that only sets up Django."
)
RUN_ONCE = False
ROUNDS = 7
WALL = Limit(150)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure wall time and CPU of the command, and its exit."""
    turns = [
        (ProcessCost(*tick), ProcessCost(*floor)) for tick, floor in database.call(measure_rounds)
    ]
    exits = [PairedValue(tick.exit_wall, floor.exit_wall) for tick, floor in turns]
    return [
        median_figure(
            "one job beyond django.setup(): wall", "ms", [t.wall for t, _ in turns], WALL
        ),
        median_figure("  CPU of all processes", "ms", [t.cpu for t, _ in turns]),
        compare_with_floor("  and then the exit: wall", "ms", exits),
    ]


# --- in a worker ----------------------------------------------------------------------------


def measure_rounds() -> list[tuple[list[float], list[float]]]:
    """Return the cost of ticks with one due job, each with the cost of its floor."""
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
