"""Output of runs in the database."""

from __future__ import annotations

import resource
from typing import Any

import psutil
import pytest
from django.db import connection

from chroniker.engine.output_store import append_output, store_output, store_progress
from chroniker.models import JobState, OutputChunk, Run
from chroniker.processes.output import OutputBatch, OutputPiece
from tests.factories import NOON, make_action_job, make_job, make_run, make_running
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


def pieces_of(*sizes: int, stream: str = "stdout") -> list[OutputPiece]:
    """Pieces of so many characters, one after the other."""
    offsets = [sum(sizes[:number]) for number in range(len(sizes))]
    return [
        OutputPiece(stream, offset, size, "x" * size)
        for offset, size in zip(offsets, sizes, strict=True)
    ]


class TestStatements:
    @pytest.mark.parametrize(
        ("sizes", "statements"),
        [
            ((), 0),
            ((10,), 1),
            ((10, 20, 30), 1),
            ((8192, 1800), 1),
            ((8193, 8193), 2),
            ((10, 8193, 20), 3),
            ((8193, 10, 20), 2),
            ((8000, 2000), 1),
            ((8000, 2001), 2),
            ((8193, 8000, 2001), 3),
            ((4000, 4000, 4000, 4000, 4000), 3),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_small_pieces_share_a_statement_and_large_ones_do_not(
        self, monkeypatch: Any, sizes: tuple[int, ...], statements: int
    ) -> None:
        monkeypatch.setattr("chroniker.engine.output_store._STATEMENT_CHARACTERS", 10_000)
        run = make_run(make_job())
        with connection.execute_wrapper(counter := _InsertCounter()):
            store_output(run.pk, OutputBatch(pieces_of(*sizes)), NOON)
        assert counter.inserts == statements
        stored = OutputChunk.objects.order_by("pk").values_list("offset", "size")
        assert list(stored) == [(piece.offset, piece.size) for piece in pieces_of(*sizes)]
        assert all(chunk.written_at == NOON for chunk in OutputChunk.objects.all())


class _InsertCounter:
    def __init__(self) -> None:
        self.inserts = 0

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        self.inserts += sql.startswith("INSERT")
        return execute(sql, params, many, context)


def test_pieces_that_left_the_tail_are_deleted() -> None:
    run, other = make_run(make_job()), make_run(make_job())
    for each in (run, other):
        store_output(each.pk, OutputBatch(pieces_of(10, 10, 10, 10, 10)), NOON)
    store_output(run.pk, OutputBatch(pieces_of(50, stream="stderr")), NOON)
    store_output(run.pk, OutputBatch(expired={"stdout": (10, 35)}), NOON)
    kept = OutputChunk.objects.filter(run=run, stream="stdout").order_by("offset")
    assert [chunk.offset for chunk in kept] == [0, 30, 40], "what lies between 10 and 35 is gone"
    assert OutputChunk.objects.filter(run=run, stream="stderr").count() == 1
    assert OutputChunk.objects.filter(run=other).count() == 5


class TestFencing:
    def test_owner_stores_output_and_progress(self) -> None:
        state = make_running(make_job(), progress_at=NOON)
        assert state.current_run and state.lease_token
        run, token = state.current_run.pk, state.lease_token
        assert append_output(state.pk, token, run, OutputBatch(pieces_of(5)), NOON)
        assert OutputChunk.objects.get().run_id == run
        assert JobState.objects.get().progress_at == NOON
        assert store_progress(state.pk, token, (10, 3), NOON)
        state.refresh_from_db()
        assert (state.parts_total, state.parts_done, state.progress_at) == (10, 3, NOON)
        assert store_progress(state.pk, token, (0, 4), NOON)
        state.refresh_from_db()
        assert (state.parts_total, state.parts_done) == (None, 4)

    def test_others_store_nothing(self) -> None:
        state = make_running(make_job())
        assert state.current_run
        batch = OutputBatch(pieces_of(5))
        assert not append_output(state.pk, "another", state.current_run.pk, batch, NOON)
        assert not OutputChunk.objects.exists()
        assert not store_progress(state.pk, "another", (10, 3), NOON)
        state.refresh_from_db()
        assert (state.parts_done, state.progress_at) == (None, None)
