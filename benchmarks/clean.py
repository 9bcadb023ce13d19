"""`cron_clean`, and the wait of other writers meanwhile."""

from __future__ import annotations

import datetime
import time

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor
from .workers import Stopwatch

NOTE = (
    "`cron_clean` of 20,000 runs with one piece of output each, against DELETE statements of the "
    "same batches and nothing else; the longest wait is that of another connection that writes a "
    "row of the same table again and again meanwhile."
)
RUN_ONCE = False
RUNS = 20_000
BATCH = 500
ROUNDS = 3
WALL = Limit(2.0)
WAIT = Limit(150)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure wall time for each run, and the longest wait of another writer."""
    turns, waits = [], []
    for _ in range(ROUNDS):
        cleaned = database.call(time_clean)
        floor = database.call(time_raw_batches)
        turns.append(PairedValue(cleaned["wall"] * 1e6 / RUNS, floor["wall"] * 1e6 / RUNS))
        waits.append(database.call(time_other_writer) * 1e3)
    return [
        compare_with_floor("a run deleted: wall", "µs", turns, WALL),
        Figure("  longest wait of another writer", max(waits), "ms", limit=WAIT),
    ]


# --- in a worker ----------------------------------------------------------------------------


def fill() -> None:
    """Create old runs of ten jobs, with one piece of output each."""
    from chroniker.enums import RunStatus
    from chroniker.models import Job, OutputChunk, Run

    from .jobs import add_jobs

    databases.empty()
    add_jobs(10)
    jobs = list(Job.objects.all())
    long_ago = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    for start in range(0, RUNS, 5000):
        numbers = range(start, start + 5000)
        Run.objects.bulk_create(
            Run(
                job=jobs[number % 10],
                scheduled_for=long_ago + datetime.timedelta(seconds=number),
                status=RunStatus.SUCCEEDED,
                started_at=long_ago,
                ended_at=long_ago + datetime.timedelta(seconds=number),
            )
            for number in numbers
        )
    keys = Run.objects.order_by("pk").values_list("pk", flat=True)
    OutputChunk.objects.bulk_create(
        [
            OutputChunk(
                run_id=key,
                stream="stdout",
                offset=0,
                size=140,
                text="a line\n" * 20,
                written_at=long_ago,
            )
            for key in keys
        ],
        batch_size=5000,
    )


def time_clean() -> dict[str, float]:
    """Return the seconds of the command."""
    from django.core.management import call_command

    from chroniker.models import Run

    fill()
    with Stopwatch() as clock:
        call_command("cron_clean", "weeks", "1", verbosity=0)
    if Run.objects.exists():
        raise RuntimeError("not all old runs were deleted")
    return {"wall": clock.wall}


def time_raw_batches() -> dict[str, float]:
    """Return the seconds of the least that deletes the rows: two statements a batch."""
    from django.db import connection

    fill()
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM chroniker_run ORDER BY id")
        keys = [key for (key,) in cursor.fetchall()]
    with Stopwatch() as clock, connection.cursor() as cursor:
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            marks = ", ".join(["%s"] * len(batch))
            for table, column in (("chroniker_outputchunk", "run_id"), ("chroniker_run", "id")):
                cursor.execute(f"DELETE FROM {table} WHERE {column} IN ({marks})", batch)
    return {"wall": clock.wall}


def time_other_writer() -> float:
    """Return the longest seconds that a write of another process took during `cron_clean`."""
    import os

    from django.core.management import call_command
    from django.db import connections

    from chroniker.models import Run

    fill()
    kept = Run.objects.order_by("pk").last()
    assert kept is not None
    Run.objects.filter(pk=kept.pk).update(ended_at=datetime.datetime.now(datetime.UTC))
    connections.close_all()
    pid = os.fork()
    if not pid:
        call_command("cron_clean", "weeks", "1", verbosity=0)
        connections.close_all()
        os._exit(0)
    longest = 0.0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        began = time.monotonic()
        Run.objects.filter(pk=kept.pk).update(error="written meanwhile")
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.002)
    return longest
