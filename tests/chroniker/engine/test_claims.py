"""Which slots, retries and requests are claimed, and by whom."""

from __future__ import annotations

import multiprocessing
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from chroniker.models import Job, JobDependency, JobState, Run
from tests.factories import make_action_job, make_due, make_due_job, make_job
from tests.support.types import RunInFork, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestRetries:
    def test_retry_delay_doubles_until_retries_are_used_up(self, run_tick: RunTick) -> None:
        job = make_action_job("leave 1", max_retries=2, retry_delay_seconds=100)
        run_tick()
        delays = []
        for _ in range(3):
            state = JobState.objects.get(job=job)
            if state.retry_at is None:
                break
            delays.append(round((state.retry_at - now()).total_seconds(), -1))
            JobState.objects.update(retry_at=now() - timedelta(seconds=1))
            run_tick()
        assert delays == [100, 200]
        runs = Run.objects.filter(job=job).order_by("id")
        assert [(run.attempt, run.trigger) for run in runs] == [
            (1, "schedule"), (2, "retry"), (3, "retry"),
        ]  # fmt: skip
        assert len({run.scheduled_for for run in runs}) == 1
        state = JobState.objects.get(job=job)
        assert (state.retries_total, state.failures_error, state.retry_at) == (2, 3, None)

    def test_due_slot_supersedes_a_retry(self, run_tick: RunTick) -> None:
        job = make_action_job("leave 1", max_retries=2)
        run_tick()
        make_due(job)
        assert JobState.objects.update(retry_at=now() - timedelta(seconds=1))
        run_tick()
        assert Run.objects.filter(job=job, trigger="retry").count() == 0


class TestRequests:
    def test_request_runs_a_disabled_job(self, run_tick: RunTick) -> None:
        job = make_job(schedule="@every 1h", enabled=False)
        run_tick()
        assert JobState.objects.filter(job=job).request_run(now()) == 1
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.trigger) == ("succeeded", "manual")
        assert JobState.objects.get(job=job).run_requested_at is None

    def test_two_simultaneous_requests_run_twice(self, run_tick: RunTick) -> None:
        job = make_job()
        run_tick()
        moment = now()
        for _ in range(2):
            JobState.objects.filter(job=job).request_run(moment)
            run_tick()
        assert list(Run.objects.filter(job=job).order_by("id").values_list("attempt", flat=True)) \
            == [1, 2]  # fmt: skip

    def test_stop_request_of_an_earlier_run_does_not_stop_the_next(self, run_tick: RunTick) -> None:
        job = make_action_job("sleep 1.5")
        run_tick(only=frozenset())
        JobState.objects.filter(job=job).update(stop_requested_at=now())
        run_tick()
        assert Run.objects.get(job=job).status == "succeeded"


class TestHosts:
    def test_job_pinned_to_another_host_is_not_started(
        self, run_tick: RunTick, settings: Any
    ) -> None:
        settings.CHRONIKER_HOSTNAME = "web1"
        mine, other = make_due_job(hostname="web1"), make_due_job(hostname="web2")
        run_tick()
        assert Run.objects.get().job == mine
        settings.CHRONIKER_HOSTNAME = "web2"
        run_tick()
        assert Run.objects.get(job=other).ran_on == "web2"

    def test_every_host_job_has_a_state_per_host(self, run_tick: RunTick, settings: Any) -> None:
        job = make_due_job(hostname="*")
        for name in ("web1", "web2"):
            settings.CHRONIKER_HOSTNAME = name
            run_tick()
            JobState.objects.filter(job=job, host=name).request_run(now())
            run_tick()
        assert set(Run.objects.filter(job=job).values_list("host", "ran_on")) == {
            ("web1", "web1"), ("web2", "web2"),
        }  # fmt: skip
        for state in JobState.objects.filter(job=job):
            assert state.runs_total == Run.objects.filter(job=job, host=state.host).count()


class TestExclusion:
    def test_two_ticks_at_the_same_instant_run_each_slot_once(
        self, run_in_fork: RunInFork, tmp_path: Path
    ) -> None:
        """Fifty rounds of two simultaneous ticks over three jobs."""
        jobs = [make_due_job() for _ in range(3)]
        barrier = multiprocessing.get_context("fork").Barrier(2)

        def fifty_ticks() -> None:
            from chroniker.engine.scheduler import Scheduler

            for turn in range(50):
                barrier.wait(30)
                if os.environ.get("CHRONIKER_FIRST") == "1":
                    moment = now() - timedelta(seconds=1)
                    JobState.objects.update(next_slot_at=moment, next_run_at=moment)
                barrier.wait(30)
                Scheduler().run()
                barrier.wait(30)
                assert Run.objects.count() == 3 * (turn + 1), turn

        from chroniker.engine.planning import plan_changed_jobs

        plan_changed_jobs(now())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CHRONIKER_FIRST", "1")
            one = run_in_fork(fifty_ticks)
            patch.setenv("CHRONIKER_FIRST", "0")
            two = run_in_fork(fifty_ticks)
        for ended in (one.wait(100), two.wait(100)):
            assert ended.exit_code == 0, ended.output
        for job in jobs:
            state = JobState.objects.get(job=job)
            runs = Run.objects.filter(job=job, status="succeeded")
            assert state.runs_total == runs.count() == 50
            assert runs.values("scheduled_for").distinct().count() == 50


def test_retry_does_not_collide_with_a_run_for_the_same_slot(run_tick: RunTick) -> None:
    first = make_action_job("leave 1", max_retries=1, retry_delay_seconds=1000)
    then = make_job(command="act", args="leave 1", max_retries=2, retry_delay_seconds=1000)
    JobDependency.objects.create(
        downstream=then, upstream=first, wait_for_success=False, wait_for_completion=True
    )
    run_tick()
    assert Run.objects.filter(job=then).count() == 1
    for job in (first, then):
        JobState.objects.filter(job=job).update(retry_at=now() - timedelta(seconds=1))
        run_tick()
    assert JobState.objects.get(job=then).blocked_reason == ""
    attempts = Run.objects.filter(job=then).order_by("id").values_list("attempt", flat=True)
    assert list(attempts) == sorted(set(attempts)) and len(attempts) >= 2


def test_disabled_job_is_not_retried(
    run_tick: RunTick, start_tick: StartTick, tmp_path: Path
) -> None:
    job = make_action_job("leave 1", max_retries=3, retry_delay_seconds=1000)
    run_tick()
    Job.objects.update(enabled=False)
    run_tick()
    JobState.objects.update(retry_at=now() - timedelta(seconds=1), retry_slot_at=now())
    run_tick()
    assert Run.objects.filter(job=job).count() == 1
    assert JobState.objects.get(job=job).retry_at is None
