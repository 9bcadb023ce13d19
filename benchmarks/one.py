"""One due job that does nothing: what its tick costs beyond Python and Django."""

from __future__ import annotations

from . import databases
from .databases import Database
from .figures import Figure, Limit, Pair, compared, middle
from .workers import MANAGE, NOTHING, Spent, spend

NOTE = (
    "a fresh process of `manage.py cron` with one due no-op job, from the end of django.setup() "
    "to the end of the command, in which the job has run and its end is stored. Leaving the "
    "interpreter, which every Django process has to do, is a line of its own, against a process "
    "that has only set up Django."
)
ONCE = False
ROUNDS = 7
WALL = Limit(150)


def figures(database: Database) -> list[Figure]:
    """Wall and CPU of the command, and its exit."""
    turns = [(Spent(*tick), Spent(*floor)) for tick, floor in database.call(take_turns)]
    exits = [Pair(tick.exit_wall, floor.exit_wall) for tick, floor in turns]
    return [
        middle("one job beyond django.setup(): wall", "ms", [t.wall for t, _ in turns], WALL),
        middle("  CPU of all processes", "ms", [t.cpu for t, _ in turns]),
        compared("  and then the exit: wall", "ms", exits),
    ]


# --- in a worker ----------------------------------------------------------------------------


def take_turns() -> list[tuple[list[float], list[float]]]:
    """What ticks with one due job spent, each with what its floor did."""
    from .jobs import add, expect_success, make_due

    databases.empty()
    add(1)
    found = []
    for _ in range(ROUNDS):
        make_due()
        floor = spend(NOTHING)
        tick = spend(MANAGE)
        expect_success(1)
        found.append((tick.numbers, floor.numbers))
    return found
