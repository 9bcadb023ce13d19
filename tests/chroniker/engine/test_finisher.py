"""Record the end of runs, even if rows or connections are gone."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.db.models.signals import post_save

from chroniker.db.clock import boottime
from chroniker.engine.claims import ClaimedRun
from chroniker.engine.completion import FinishedRun
from chroniker.engine.finisher import BATCH_SECONDS, Finisher
from chroniker.engine.leases import Leases
from chroniker.engine.tick_clock import TickClock
from chroniker.enums import RunStatus
from chroniker.models import Incident, JobState, OutputChunk, Run
from tests.factories import make_action_job, make_job
from tests.support.connections import kill_other_connections
from tests.support.executors import make_active_run
from tests.support.outage import failing_statements, lost_reply
from tests.support.processes import wait_until
from tests.support.runs import stored_output
from tests.support.timeline import START, Timeline
from tests.support.types import StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_end_of_run_is_recorded_after_a_lost_connection(
    start_tick: StartTick, tmp_path: Path
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("an SQLite file has no connection to kill")
    started = tmp_path / "started"
    job = make_action_job(f"sleep 2 {started}")
    tick = start_tick()
    wait_until(started.exists)
    kill_other_connections()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"
    assert JobState.objects.get(job=job).runs_total == 1


def test_deleted_run_does_not_block_others(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 60
    started = tmp_path / "started"
    job, other = make_action_job(f"sleep 1.2 {started}"), make_action_job("sleep 1.5")
    tick = start_tick()
    wait_until(started.exists)
    Run.objects.filter(job=job).delete()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=other).status == "succeeded"
    state = JobState.objects.get(job=job)
    assert state.lease_token is None and state.runs_total == 1


class Recorded:
    """A finisher, and the keys of the runs that it has reported as recorded."""

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.leases = Leases()
        self.finisher = Finisher(TickClock(START), self.leases, self._note)

    def _note(self, finished: FinishedRun) -> None:
        self.keys.append(finished.run.pk)

    def end(
        self, status: RunStatus = RunStatus.SUCCEEDED, output: str = "half a result\n"
    ) -> ClaimedRun:
        """A run of a new job that has ended, and whose end is not written."""
        claimed: ClaimedRun = Timeline().start(make_job())
        run, handle = make_active_run(claimed)
        handle.write("stdout", output)
        handle.warden_pid, handle.parts = 4711, (10, 7)
        handle.end(status, "" if status == RunStatus.SUCCEEDED else "boom")
        self.finisher.add(run)
        return claimed


class TestFinish:
    def test_end_is_written_with_all_that_is_known_of_the_run(self) -> None:
        recorded = Recorded()
        claimed = recorded.end(RunStatus.FAILED)
        recorded.finisher.finish()
        run = Run.objects.get(pk=claimed.run.pk)
        assert (run.status, run.error, run.duration_seconds) == ("failed", "boom", 0.5)
        assert (run.pid, run.parts_total, run.parts_done) == (4711, 10, 7)
        assert (run.stdout_bytes, run.stderr_bytes) == (14, 0)
        assert stored_output(run, "stdout") == "half a result\n"
        assert run.ended_at is not None and run.ended_at >= START
        assert recorded.keys == [run.pk]
        assert not recorded.finisher.unrecorded and not recorded.finisher.tokens()

    def test_ends_are_written_in_one_transaction(self) -> None:
        recorded = Recorded()
        ended = [recorded.end() for _ in range(3)]
        with lost_reply("UPDATE", "chroniker_run"), pytest.raises(OperationalError):
            recorded.finisher.finish()
        assert Run.objects.filter(status="succeeded").count() == len(ended)

    def test_refused_run_fails_with_the_reason(self) -> None:
        recorded = Recorded()
        claimed = Timeline().start(make_job())
        recorded.finisher.add_refused(claimed, "Command noop is not allowed.")
        assert recorded.finisher.tokens() == {claimed.token}
        recorded.finisher.finish()
        run = Run.objects.get()
        assert (run.status, run.error) == ("failed", "Command noop is not allowed.")

    def test_end_is_kept_in_an_outage_and_written_once_afterwards(self) -> None:
        recorded = Recorded()
        claimed = recorded.end()
        with failing_statements("chroniker_jobstate"), pytest.raises(OperationalError):
            recorded.finisher.finish()
        assert recorded.finisher.tokens() == {claimed.token}
        assert recorded.keys == [] and Run.objects.get().status == "running"
        recorded.finisher.finish()
        assert recorded.keys == [claimed.run.pk]
        assert stored_output(Run.objects.get(), "stdout") == "half a result\n"
        assert JobState.objects.get().runs_total == 1

    def test_end_whose_commit_was_not_confirmed_counts_once(self) -> None:
        recorded = Recorded()
        claimed = recorded.end()
        with lost_reply("UPDATE", "chroniker_run"), pytest.raises(OperationalError):
            recorded.finisher.finish()
        assert recorded.keys == [], "nobody knows yet"
        recorded.finisher.finish()
        assert recorded.keys == [claimed.run.pk]
        assert JobState.objects.get().runs_total == 1
        assert OutputChunk.objects.count() == 1

    def test_run_that_lost_its_lease_is_not_reported(self, caplog: Any) -> None:
        recorded = Recorded()
        claimed = recorded.end()
        JobState.objects.update(lease_token="another host's")
        recorded.finisher.finish()
        assert recorded.keys == [] and not recorded.finisher.unrecorded
        assert f"Run {claimed.run.pk} of job {claimed.job.name} lost its lease" in caplog.text
        assert Run.objects.get().status == "running"
        assert not OutputChunk.objects.exists()


class TestRejectedEnds:
    def test_output_that_is_rejected_is_dropped_and_the_end_is_written(self) -> None:
        recorded = Recorded()
        first, second = recorded.end(output="poison"), recorded.end()
        with failing_statements("INSERT", "outputchunk", error=DataError, parameter="poison"):
            recorded.finisher.finish()
            assert recorded.keys == [second.run.pk]
            assert recorded.finisher.tokens() == {first.token}
            recorded.finisher.finish()
        assert recorded.keys == [second.run.pk, first.run.pk]
        assert {run.status for run in Run.objects.all()} == {"succeeded"}
        assert stored_output(Run.objects.get(pk=first.run.pk), "stdout") == ""
        assert stored_output(Run.objects.get(pk=second.run.pk), "stdout") == "half a result\n"

    def test_end_that_is_rejected_twice_becomes_a_loss_with_the_reason(self) -> None:
        recorded = Recorded()
        claimed = recorded.end()
        with failing_statements("UPDATE", "chroniker_run", error=DataError, parameter="succeeded"):
            recorded.finisher.finish()
            recorded.finisher.finish()
            recorded.finisher.finish()
        run = Run.objects.get()
        assert run.status == "lost"
        assert run.error.startswith("The run ended as succeeded, but the database rejected its")
        assert (run.pid, run.parts_done, run.stdout_bytes) == (None, None, 0)
        assert recorded.keys == [claimed.run.pk]
        state = JobState.objects.get()
        assert (state.failures_lost, state.lease_token) == (1, None)

    def test_state_is_released_after_the_third_rejection(self) -> None:
        recorded = Recorded()
        recorded.end()
        with failing_statements("UPDATE", "chroniker_jobstate", "runs_total", error=DataError):
            for _ in range(2):
                recorded.finisher.finish()
                assert recorded.finisher.unrecorded
                assert JobState.objects.get().lease_token is not None
            recorded.finisher.finish()
        assert not recorded.finisher.unrecorded
        assert JobState.objects.get().lease_token is None
        assert Run.objects.get().status == "lost"
        assert recorded.keys == []

    def test_receiver_of_the_site_that_raises_costs_only_that_run(self) -> None:
        recorded = Recorded()
        bad, good = recorded.end(RunStatus.FAILED), recorded.end()

        def receive(sender: object, instance: Incident, **_: object) -> None:
            raise ValueError("the site's audit log is broken")

        post_save.connect(receive, sender=Incident)
        try:
            for _ in range(3):
                recorded.finisher.finish()
        finally:
            post_save.disconnect(receive, sender=Incident)
        assert recorded.keys == [good.run.pk]
        assert not recorded.finisher.unrecorded
        assert set(JobState.objects.values_list("lease_token", flat=True)) == {None}
        run = Run.objects.get(pk=bad.run.pk)
        assert run.status == "lost"
        assert run.error.endswith(
            'cannot be written: ValueError("the site\'s audit log is broken")'
        )

    def test_outage_between_two_ends_keeps_the_rest(self) -> None:
        recorded = Recorded()
        first = recorded.end(output="poison")
        second, third = recorded.end(output="too soon"), recorded.end()
        with (
            failing_statements("INSERT", "outputchunk", error=DataError, parameter="poison"),
            failing_statements("INSERT", "outputchunk", parameter="too soon"),
            pytest.raises(OperationalError),
        ):
            recorded.finisher.finish()
        assert recorded.finisher.tokens() == {first.token, second.token, third.token}
        recorded.finisher.finish()
        assert sorted(recorded.keys) == [first.run.pk, second.run.pk, third.run.pk]


class TestLostEnds:
    def test_end_is_given_up_a_lease_after_its_lease_ran_out(
        self, caplog: Any, settings: Any
    ) -> None:
        recorded = Recorded()
        claimed = recorded.end()
        lease = settings.CHRONIKER_LEASE_SECONDS = 60
        recorded.leases.acquire(claimed.token, boottime() - 2 * lease - 1)
        recorded.finisher.give_up_lost_runs()
        assert recorded.finisher.unrecorded == []
        assert f"Run {claimed.run.pk} of job {claimed.job.name} ended as succeeded" in caplog.text
        assert [record.levelno for record in caplog.records] == [logging.ERROR]

    def test_end_is_kept_while_its_lease_may_still_be_valid(self, settings: Any) -> None:
        recorded = Recorded()
        claimed, unknown = recorded.end(), recorded.end()
        lease = settings.CHRONIKER_LEASE_SECONDS = 60
        recorded.leases.acquire(claimed.token, boottime() - 2 * lease + 1)
        recorded.finisher.give_up_lost_runs()
        assert recorded.finisher.tokens() == {claimed.token, unknown.token}

    def test_other_ends_are_kept(self, settings: Any) -> None:
        recorded = Recorded()
        ended = [recorded.end() for _ in range(4)]
        for claimed in ended[:2]:
            recorded.leases.acquire(claimed.token, boottime() - 1000)
        recorded.finisher.give_up_lost_runs()
        assert recorded.finisher.tokens() == {claimed.token for claimed in ended[2:]}


class TestBatches:
    def test_ends_wait_for_others_unless_the_host_is_nearly_idle(self) -> None:
        recorded = Recorded()
        before = time.monotonic()
        recorded.end()
        after = time.monotonic()
        assert recorded.finisher.should_finish(before, nearly_idle=True)
        assert not recorded.finisher.should_finish(before, nearly_idle=False)
        assert recorded.finisher.should_finish(after + BATCH_SECONDS, nearly_idle=False)

    def test_wait_counts_from_the_first_end(self) -> None:
        recorded = Recorded()
        recorded.end()
        after = time.monotonic()
        wait_until(lambda: time.monotonic() > after + BATCH_SECONDS)
        recorded.end()
        assert recorded.finisher.should_finish(after + BATCH_SECONDS, nearly_idle=False)

    def test_nothing_to_write_is_never_due(self) -> None:
        recorded = Recorded()
        assert not recorded.finisher.should_finish(time.monotonic(), nearly_idle=True)
        recorded.end()
        recorded.finisher.finish()
        assert not recorded.finisher.should_finish(time.monotonic() + 60, nearly_idle=True)
