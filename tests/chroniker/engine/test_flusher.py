"""Progress and output are stored while a job runs, and stop requests are read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from chroniker.engine.active_runs import ActiveRun
from chroniker.engine.flusher import Flusher
from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_job
from tests.support.executors import InMemoryRun, make_active_run
from tests.support.outage import failing_statements
from tests.support.processes import wait_until
from tests.support.runs import request_stop, stored_output
from tests.support.timeline import START, Timeline
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
class TestProgress:
    @pytest.mark.slow
    def test_progress_is_visible_while_the_job_is_in_a_transaction(
        self, start_tick: StartTick, settings: Any, tmp_path: Path, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        reported, seen = tmp_path / "reported", tmp_path / "seen"
        job = make_action_job(f"progress_in_transaction {reported} {seen}")
        tick = start_tick()
        wait_until(reported.exists, timeout=20)
        began = time.monotonic()
        wait_until(
            lambda: JobState.objects.filter(
                job=job, parts_total=77, parts_done=13, progress_at__isnull=False
            ).exists()
        )
        assert time.monotonic() - began < 4  # two, plus some on a busy machine
        assert Run.objects.get(job=job).status == "running"
        seen.touch()
        tick.wait(20)
        assert Run.objects.get(job=job).status == "succeeded"

    def test_last_progress_is_stored(
        self, run_tick: RunTick, settings: Any, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        job = make_action_job("report_progress_to 100000")
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.parts_done, run.parts_total) == ("succeeded", 100000, 100000)


def start_long_run(**fields: Any) -> tuple[ActiveRun, InMemoryRun]:
    """A run in progress; its output was last stored long ago."""
    run, handle = make_active_run(Timeline().start(make_job(**fields)))
    run.output_stored_at = time.monotonic() - 60
    return run, handle


def flush(*runs: ActiveRun) -> list[int]:
    return Flusher().flush({run.handle.key: run for run in runs}, START)


class TestFlush:
    def test_flush_is_due_once_a_second(self) -> None:
        flusher = Flusher()
        before = time.monotonic()
        flusher.start_flushing()
        now = time.monotonic()
        assert not flusher.flush_is_due(before + 0.9)
        assert flusher.flush_is_due(now + 1)
        assert not flusher.flush_is_due(now + 1.9)
        assert flusher.flush_is_due(now + 2)

    def test_output_survives_an_outage(self) -> None:
        run, handle = start_long_run()
        handle.write("stdout", "before the outage\n")
        with failing_statements("INSERT", "outputchunk"), pytest.raises(OperationalError):
            flush(run)
        handle.write("stdout", "after it\n")
        run.output_stored_at = time.monotonic() - 60
        flush(run)
        stored = Run.objects.get()
        assert stored_output(stored, "stdout") == "before the outage\nafter it\n"
        handle.write("stdout", "the end\n")
        run.output_stored_at = time.monotonic() - 60
        flush(run)
        assert stored_output(stored, "stdout") == "before the outage\nafter it\nthe end\n"

    def test_output_that_is_rejected_is_dropped_and_logged(self, caplog: Any) -> None:
        run, handle = start_long_run()
        handle.write("stdout", "poison\n")
        with (
            failing_statements("INSERT", "outputchunk", error=DataError),
            pytest.raises(DataError),
        ):
            flush(run)
        assert f"Output of run {run.handle.key} cannot be stored" in caplog.text
        handle.write("stdout", "harmless\n")
        run.output_stored_at = time.monotonic() - 60
        flush(run)
        assert stored_output(Run.objects.get(), "stdout") == "harmless\n"

    def test_output_is_stored_every_two_seconds(self) -> None:
        run, handle = start_long_run()
        handle.write("stdout", "first\n")
        flush(run)
        handle.write("stdout", "second\n")
        run.output_stored_at = time.monotonic() - 1
        flush(run)
        assert stored_output(Run.objects.get(), "stdout") == "first\n"
        run.output_stored_at = time.monotonic() - 2
        flush(run)
        assert stored_output(Run.objects.get(), "stdout") == "first\nsecond\n"
        assert time.monotonic() - run.output_stored_at < 60

    def test_progress_survives_an_outage(self) -> None:
        run, handle = start_long_run()
        handle.reported = (10, 3)
        with failing_statements("UPDATE", "parts_done"), pytest.raises(OperationalError):
            flush(run)
        flush(run)
        state = JobState.objects.get()
        assert (state.parts_total, state.parts_done, state.progress_at) == (10, 3, START)

    def test_unchanged_progress_is_not_written_again(self, django_assert_num_queries: Any) -> None:
        run, handle = start_long_run()
        handle.reported = (10, 3)
        flush(run)
        with django_assert_num_queries(1):  # the stop requests
            flush(run)

    def test_silent_run_is_not_written(self) -> None:
        run, _handle = start_long_run()
        flush(run)
        run.output_stored_at = time.monotonic() - 60
        with CaptureQueriesContext(connection) as captured:
            flush(run)
        statements = [query["sql"].split()[0] for query in captured]
        assert not {"INSERT", "UPDATE", "DELETE"} & set(statements)

    def test_nothing_is_stored_for_a_run_that_lost_its_lease(self) -> None:
        run, handle = start_long_run()
        JobState.objects.update(lease_token="another host's")
        handle.reported = (10, 3)
        handle.write("stdout", "too late\n")
        flush(run)
        assert JobState.objects.get().parts_done is None
        assert stored_output(Run.objects.get(), "stdout") == ""

    def test_process_id_is_stored(self) -> None:
        run, handle = start_long_run()
        handle.warden_pid = 4711
        flush(run)
        assert Run.objects.get().pid == 4711

    def test_stop_requests_of_own_runs_are_returned(self) -> None:
        (first, _), (second, _), (other, _) = (start_long_run() for _ in range(3))
        request_stop(first.claimed.job)
        request_stop(other.claimed.job)
        assert flush(first, second) == [first.handle.key]
