"""The cost of reporting progress."""

from __future__ import annotations

import json

from . import databases
from .databases import BenchmarkDatabase
from .figures import Figure, Limit, PairedValue, compare_with_floor

NOTE = (
    "Job.update_progress, called a million times by a job that a tick runs; the floor is a call of "
    "an empty Python function with the same arguments."
)
RUN_ONCE = True
CALLS = 1_000_000
MICROSECONDS = Limit(3)


def figures(database: BenchmarkDatabase) -> list[Figure]:
    """Measure one call."""
    pairs = [PairedValue(*pair) for pair in database.call(run_job, calls=CALLS)]
    return [
        compare_with_floor("a call of update_progress", "µs", pairs, MICROSECONDS, of_value=True)
    ]


# --- in a worker ----------------------------------------------------------------------------


def run_job(calls: int) -> list[list[float]]:
    """Return the microseconds of a call and of an empty function, for each round."""
    from chroniker.engine.entrypoints import run_single_tick
    from chroniker.models import OutputChunk, Run

    from .jobs import add_jobs, expect_success, make_due

    databases.empty()
    add_jobs(1, "count_parts", str(calls))
    make_due()
    run_single_tick()
    expect_success(1)
    run = Run.objects.get()
    if (run.parts_done, run.parts_total) != (calls, calls):
        raise RuntimeError(f"{run.parts_done} of {run.parts_total} parts were recorded")
    pairs: list[list[float]] = json.loads(OutputChunk.objects.get().text)
    return pairs
