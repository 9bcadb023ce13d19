"""A thousand monitors that are due at one moment."""

from __future__ import annotations

from typing import Any

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor, median_figure
from .ticks import time_forks
from .workers import Stopwatch

NOTE = (
    "1,000 monitors (disk, memory, load, file, a process, a count of rows, the database's latency) "
    "due in one tick, which must end within a minute; the CPU of one monitor, in all its "
    "processes, against that of fork and call_command('noop')."
)
RUN_ONCE = False
MONITORS = 1_000
ROUNDS = 2
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("disk", {"path": "/"}),
    ("memory", {}),
    ("load", {}),
    ("file", {"pattern": __file__}),
    ("process", {"name": "python"}),
    ("records", {"model": "chroniker.Run", "filters": "status = failed"}),
    ("database", {"alias": "default"}),
)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure the wall time of all monitors and the CPU of one."""
    database.call(prepare)
    walls, cpu = [], []
    for _ in range(ROUNDS):
        tick = database.call(time_tick)
        floor = database.call(time_forks, jobs=100)
        walls.append(tick["wall"])
        cpu.append(PairedValue(tick["cpu"] * 1e3 / MONITORS, floor["cpu"] * 1e3 / 100))
    return [
        median_figure(f"{MONITORS:,} in one tick: wall", "s", walls, Limit(60)),
        compare_with_floor("  one of them: CPU", "ms", cpu),
    ]


# --- in a worker ----------------------------------------------------------------------------


def prepare() -> None:
    """Create the monitors and register the host."""
    from chroniker.engine.scheduler import Scheduler
    from chroniker_monitors.models import Monitor

    from .jobs import HOURLY

    databases.empty()
    for number in range(MONITORS):
        kind, params = KINDS[number % len(KINDS)]
        Monitor.objects.define(
            name=f"{kind} {number}", kind=kind, params=params, schedule=HOURLY, critical=1e15
        )
    Scheduler().run()


def time_tick() -> dict[str, float]:
    """Return seconds of a tick on which all monitors are due; each must store a sample."""
    from django.core.management import call_command
    from django.db import connections

    from chroniker_monitors.models import Sample

    from .jobs import expect_success, make_due

    make_due()
    Sample.objects.all().delete()
    connections.close_all()
    with Stopwatch() as clock:
        call_command("cron")
    expect_success(MONITORS)
    measured = Sample.objects.filter(value__isnull=False).count()
    if measured != MONITORS:
        raise RuntimeError(f"{measured} of {MONITORS} monitors have stored a sample")
    return {"wall": clock.wall, "cpu": clock.cpu}
