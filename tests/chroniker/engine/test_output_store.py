"""Output of runs in the database."""

from __future__ import annotations

import resource
from typing import Any

import psutil
import pytest
from django.db import connection

from chroniker.models import OutputChunk, Run
from tests.factories import make_action_job
from tests.support.runs import stored_output
from tests.support.types import RunInFork, RunTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_streams_are_kept_apart_and_nothing_is_added(run_tick: RunTick) -> None:
    job = make_action_job("say 'Grüße 🎉'")
    other, logged = make_action_job("write_stderr warm"), make_action_job("log 42 rows")
    run_tick()
    assert stored_output(Run.objects.get(job=job), "stdout") == "Grüße 🎉\n"
    assert stored_output(Run.objects.get(job=job), "stderr") == ""
    assert stored_output(Run.objects.get(job=other), "stderr") == "warm\n"
    assert stored_output(Run.objects.get(job=logged), "log") == "INFO bookshop.import 42 rows\n"


def test_output_is_not_stored_if_disabled(run_tick: RunTick) -> None:
    job = make_action_job("say secret plans", log_stdout=False)
    run_tick()
    run = Run.objects.get(job=job)
    assert stored_output(run, "stdout") == ""
    assert run.stdout_bytes == len("secret plans\n")


def _tick_with_peak_memory() -> int:
    """Run a tick; the peak growth of its memory in bytes."""
    from chroniker.engine.scheduler import Scheduler

    before = psutil.Process().memory_info().rss
    Scheduler().run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


@pytest.mark.parametrize("kind", ["lines", "solid", "binary"])
def test_large_output_is_kept_as_head_and_tail(
    run_in_fork: RunInFork, settings: Any, kind: str
) -> None:
    settings.CHRONIKER_MAX_OUTPUT_BYTES = 64 * 1024
    megabytes = 1000 if connection.vendor == "sqlite" else 250
    job = make_action_job(f"flood {megabytes} {kind}")
    ended = run_in_fork(_tick_with_peak_memory).wait(100)
    assert ended.exit_code == 0, ended.output
    assert ended.value < 64_000_000
    run = Run.objects.get(job=job)
    assert run.status == "succeeded"
    assert run.stdout_bytes > megabytes * 1_000_000
    text = stored_output(run, "stdout")
    assert text.startswith("HEAD\n") and text.endswith("\nTAIL\n")
    chunks = list(OutputChunk.objects.filter(run=run).order_by("offset"))
    assert sum(chunk.size for chunk in chunks) <= 64 * 1024 + 64
    assert chunks[-1].offset + chunks[-1].size == run.stdout_bytes
