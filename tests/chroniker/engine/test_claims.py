"""What is run, once, in which order, on which host; and what is knowingly not run."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from chroniker.models import Host, Job, JobDependency, JobState, Run
from tests.factories import make_action_job, make_due, make_due_job, make_job
from tests.support.processes import wait_until
from tests.support.types import RunInFork, RunManage, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestPlanning:
    def test_a_new_job_counts_from_its_creation(self, run_tick: RunTick) -> None:
        created = now() - timedelta(minutes=30)
        job = make_job(schedule="@every 1h", created_at=created)
        run_tick()
        state = JobState.objects.get(job=job)
        assert state.next_run_at == created + timedelta(hours=1)
        assert not Run.objects.exists()
        assert not Job.objects.needing_planning().exists()

    @pytest.mark.parametrize("how", ["save", "update", "bulk_update"])
    def test_a_changed_schedule_counts_from_the_tick_that_notices(
        self, run_tick: RunTick, how: str
    ) -> None:
        job = make_job(schedule="@every 10h", created_at=now() - timedelta(hours=9))
        run_tick()
        job.schedule = "@every 2h"
        if how == "save":
            job.save()
        elif how == "update":
            Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
        else:
            Job.objects.bulk_update([job], ["schedule"])
        assert Job.objects.needing_planning().count() == 1
        before = now()
        run_tick()
        next_run = JobState.objects.get(job=job).next_run_at
        assert next_run is not None
        assert timedelta() <= next_run - before - timedelta(hours=2) < timedelta(seconds=30)

    def test_an_old_form_cannot_hide_a_change(self, run_tick: RunTick) -> None:
        job = make_job(schedule="@every 10h")
        run_tick()
        old = Job.objects.get(pk=job.pk)
        Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
        run_tick()
        old.save()  # back to ten hours, with the note of then
        assert Job.objects.needing_planning().count() == 1
        run_tick()
        next_run = JobState.objects.get(job=job).next_run_at
        assert next_run is not None and next_run > now() + timedelta(hours=9)

    def test_disabling_stops_and_enabling_counts_from_now(self, run_tick: RunTick) -> None:
        job = make_due_job()
        Job.objects.update(enabled=False)
        run_tick()
        assert JobState.objects.get(job=job).next_run_at is None
        Job.objects.update(enabled=True)
        run_tick()
        next_run = JobState.objects.get(job=job).next_run_at
        assert next_run is not None and next_run > now() + timedelta(minutes=59)
        assert not Run.objects.exists()

    @pytest.mark.parametrize(
        "schedule", ["0 0 31 2 *", "R R * * *", "@reboot", "nonsense", "* * *"]
    )
    def test_invalid_stored_schedule_does_not_stop_the_tick(
        self, run_tick: RunTick, schedule: str
    ) -> None:
        bad, good = make_due_job(), make_due_job()
        Job.objects.filter(pk=bad.pk).update(schedule=schedule)
        assert run_tick().exit_code == 0
        assert Run.objects.get().job == good
        assert JobState.objects.get(job=bad).blocked_reason.startswith("schedule: ")

    def test_invalid_stored_schedule_is_reported_once(self, manage: RunManage) -> None:
        bad = make_due_job(name="the bad one")
        Job.objects.filter(pk=bad.pk).update(schedule="0 0 31 2 *")
        first = manage("cron")
        assert (first.returncode, first.stdout) == (0, "")
        assert "the bad one is skipped" in first.stderr and "never fires" in first.stderr
        again = manage("cron")
        assert (again.returncode, again.stdout, again.stderr) == (0, "", "")

    def test_invalid_stored_time_zone_does_not_stop_the_tick(self, run_tick: RunTick) -> None:
        bad, good = make_due_job(), make_due_job()
        Job.objects.filter(pk=bad.pk).update(timezone="Mars/Olympus")
        run_tick()
        assert Run.objects.get().job == good

    def test_jitter_moves_the_start_predictably(self, run_tick: RunTick) -> None:
        job = make_job(schedule="@every 1h", jitter_seconds=600)
        run_tick()
        state = JobState.objects.get(job=job)
        assert state.next_run_at is not None and state.next_slot_at is not None
        assert timedelta() <= state.next_run_at - state.next_slot_at <= timedelta(seconds=600)


class TestSlots:
    def test_at_most_one_late_start_and_the_rest_in_one_row(self, run_tick: RunTick) -> None:
        created = now() - timedelta(minutes=10, seconds=30)
        job = make_job(schedule="@every 1m", created_at=created)
        run_tick()
        late = Run.objects.get(job=job, status="succeeded")
        missed = Run.objects.get(job=job, status="missed")
        assert late.scheduled_for == created + timedelta(minutes=10)
        assert (missed.missed_slots, missed.missed_reason) == (9, "downtime")
        assert missed.scheduled_for == created + timedelta(minutes=1)
        state = JobState.objects.get(job=job)
        assert (state.missed_downtime, state.runs_total) == (9, 1)
        assert state.next_run_at == created + timedelta(minutes=11)

    def test_slot_past_start_deadline_is_not_started(self, run_tick: RunTick) -> None:
        created = now() - timedelta(minutes=10, seconds=30)
        job = make_job(schedule="@every 1m", created_at=created, start_deadline_seconds=5)
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.missed_slots, run.missed_reason) == ("missed", 10, "deadline")
        state = JobState.objects.get(job=job)
        assert state.missed_deadline == 10 and state.lease_token is None
        assert state.next_run_at == created + timedelta(minutes=11)

    def test_slots_that_passed_while_it_ran_are_an_overlap(
        self, start_tick: StartTick, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        created = now() - timedelta(seconds=1.1)
        job = make_action_job(f"sleep 2.2 {started}", schedule="@every 1s", created_at=created)
        tick = start_tick()
        wait_until(started.exists)
        Job.objects.update(args="say done")  # the late start that follows is a short one
        tick.wait(20)
        missed = Run.objects.filter(job=job, status="missed", missed_reason="overlap").first()
        assert missed is not None and missed.missed_slots >= 1
        state = JobState.objects.get(job=job)
        assert state.missed_overlap == missed.missed_slots

    def test_every_slot_has_exactly_one_outcome(self, run_tick: RunTick) -> None:
        created = now() - timedelta(seconds=300)
        job = make_job(schedule="@every 7s", created_at=created)
        for _ in range(3):
            run_tick()
        state = JobState.objects.get(job=job)
        assert state.next_slot_at is not None
        slots = round((state.next_slot_at - created) / timedelta(seconds=7)) - 1
        rows = Run.objects.filter(job=job)
        ran = rows.exclude(status="missed").count()
        assert ran + sum(rows.values_list("missed_slots", flat=True)) == slots

    def test_a_clock_that_was_set_back_does_not_stop_the_job(self, run_tick: RunTick) -> None:
        job = make_due_job()
        run_tick()
        state = JobState.objects.get(job=job)
        again = Run.objects.get(job=job).scheduled_for
        JobState.objects.filter(pk=state.pk).update(next_slot_at=again, next_run_at=again)
        run_tick()
        assert list(Run.objects.order_by("id").values_list("attempt", "status")) == [
            (1, "succeeded"), (2, "succeeded"),
        ]  # fmt: skip


class TestRetries:
    def test_double_their_delay_and_end(self, run_tick: RunTick) -> None:
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

    def test_a_stop_request_of_an_earlier_run_does_not_stop_the_next(
        self, run_tick: RunTick
    ) -> None:
        job = make_action_job("sleep 1.5")
        run_tick(only=frozenset())
        JobState.objects.filter(job=job).update(stop_requested_at=now())
        run_tick()
        assert Run.objects.get(job=job).status == "succeeded"


class TestDependencies:
    def test_a_chain_runs_in_one_tick_and_in_order(self, run_tick: RunTick) -> None:
        last, middle, first = make_due_job(name="c"), make_due_job(name="b"), make_due_job(name="a")
        JobDependency.objects.create(downstream=last, upstream=middle)
        JobDependency.objects.create(downstream=middle, upstream=first)
        run_tick()
        ran = Run.objects.order_by("started_at").values_list("job__name", "status")
        assert list(ran) == [("a", "succeeded"), ("b", "succeeded"), ("c", "succeeded")]
        runs = {run.job.name: run for run in Run.objects.select_related("job")}
        assert runs["a"].ended_at <= runs["b"].started_at  # type: ignore[operator]
        assert runs["b"].ended_at <= runs["c"].started_at  # type: ignore[operator]

    def test_failed_upstream_blocks_with_reason(self, run_tick: RunTick) -> None:
        first, then = make_action_job("leave 1", name="import"), make_due_job(name="report")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        run_tick()
        assert not Run.objects.filter(job=then).exists()
        reason = JobState.objects.get(job=then).blocked_reason
        assert reason == "dependency: import has not succeeded (last status: failed)"
        Job.objects.filter(pk=first.pk).update(args="leave 0")
        make_due(first)
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"
        assert JobState.objects.get(job=then).blocked_reason == ""

    def test_unscheduled_job_runs_after_its_upstream(self, run_tick: RunTick) -> None:
        first, then = make_due_job(), make_job(schedule="")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        run = Run.objects.get(job=then)
        assert (run.status, run.trigger) == ("succeeded", "dependency")
        run_tick()
        assert Run.objects.filter(job=then).count() == 1

    def test_manual_request_ignores_dependencies(self, run_tick: RunTick) -> None:
        first, then = make_action_job("leave 1"), make_job(schedule="")
        JobDependency.objects.create(downstream=then, upstream=first)
        run_tick()
        JobState.objects.filter(job=then).request_run(now())
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"

    def test_wait_for_next_run_waits_for_the_same_period(self, run_tick: RunTick) -> None:
        first = make_job(schedule="@every 1h", created_at=now() - timedelta(minutes=10))
        then = make_due_job()
        JobDependency.objects.create(
            downstream=then, upstream=first, wait_for_completion=False, wait_for_success=False,
            wait_for_next_run=True,
        )  # fmt: skip
        run_tick(only=frozenset())
        JobState.objects.filter(job=first).update(
            next_slot_at=JobState.objects.get(job=then).next_slot_at
        )
        run_tick()
        assert not Run.objects.filter(job=then).exists()
        assert "this period" in JobState.objects.get(job=then).blocked_reason
        make_due(first)
        run_tick()
        assert Run.objects.get(job=then).status == "succeeded"

    def test_cycle_is_rejected_with_its_path(self) -> None:
        a, b, c = (make_job(name=name) for name in "abc")
        JobDependency.objects.create(downstream=a, upstream=b)
        JobDependency.objects.create(downstream=b, upstream=c)
        from django.core.exceptions import ValidationError

        with pytest.raises(
            ValidationError, match=r"(a → b → c → a)|(b → c → a → b)|(c → a → b → c)"
        ):
            JobDependency(downstream=c, upstream=a).full_clean()

    def test_stored_cycle_blocks_only_its_own_jobs(self, run_tick: RunTick) -> None:
        a, b, good = make_due_job(), make_due_job(), make_due_job()
        JobDependency.objects.create(downstream=a, upstream=b)
        JobDependency.objects.create(downstream=b, upstream=a)
        run_tick()
        assert [run.job for run in Run.objects.select_related("job")] == [good]


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

    def test_a_paused_host_starts_nothing(self, run_tick: RunTick) -> None:
        run_tick()
        Host.objects.update(paused=True)
        make_due_job()
        run_tick()
        assert not Run.objects.exists()

    def test_higher_priority_runs_first_at_capacity(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        for name, priority in (("low", -1), ("high", 5), ("middle", 0)):
            make_due_job(name=name, priority=priority)
        run_tick()
        assert list(Run.objects.order_by("id").values_list("job__name", flat=True)) == [
            "high", "middle", "low",
        ]  # fmt: skip

    def test_running_jobs_never_exceed_capacity(self, start_tick: StartTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 3
        for _ in range(7):
            make_action_job("sleep 0.4")
        ticks = [start_tick() for _ in range(2)]
        most = 0

        def all_ran() -> bool:
            nonlocal most
            most = max(most, Run.objects.running().count())
            return Run.objects.filter(status="succeeded").count() == 7

        wait_until(all_ran, timeout=20)
        for tick in ticks:
            tick.wait(20)
        assert most == 3


class TestExclusion:
    def test_the_database_refuses_a_second_running_row(self) -> None:
        job = make_job()
        Run.objects.create(job=job, scheduled_for=now())
        with pytest.raises(IntegrityError), transaction.atomic():
            Run.objects.create(job=job, scheduled_for=now())
        Run.objects.update(status="failed")
        Run.objects.create(job=job, scheduled_for=now())

    def test_two_ticks_at_the_same_instant_run_each_slot_once(
        self, run_in_fork: RunInFork, tmp_path: Path
    ) -> None:
        """Fifty times two ticks that are released together, over three jobs."""
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

    def test_a_lease_that_ran_out_is_lost_and_its_owner_writes_nothing(
        self, start_tick: StartTick, run_tick: RunTick, tmp_path: Path, settings: Any
    ) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("hosts of an SQLite file are one machine; the kernel tells who is alive")
        settings.CHRONIKER_LEASE_SECONDS = 3
        settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.5
        settings.CHRONIKER_HOSTNAME = "web1"
        started = tmp_path / "started"
        job = make_action_job(f"sleep 60 {started}")
        tick = start_tick()
        wait_until(started.exists)
        pid = int(started.read_text())
        import signal

        os.kill(tick.pid, signal.SIGSTOP)
        from tests.support.processes import is_alive

        wait_until(lambda: not is_alive(pid), timeout=20)  # its warden keeps the promise
        settings.CHRONIKER_HOSTNAME = "web2"
        wait_until(lambda: JobState.objects.stale().exists(), timeout=20)
        run_tick()
        run = Run.objects.get(job=job)
        assert run.status == "lost" and "web1" in run.error
        os.kill(tick.pid, signal.SIGCONT)
        tick.wait(20)
        state = JobState.objects.get(job=job)
        assert (state.runs_total, state.failures_lost) == (1, 1)
        assert Run.objects.get(pk=run.pk).ended_at == run.ended_at

    def test_with_a_pid_file_ticks_wait_for_one_another(
        self, start_tick: StartTick, settings: Any, tmp_path: Path, run_in_fork: RunInFork
    ) -> None:
        settings.CHRONIKER_USE_PID = True
        settings.CHRONIKER_PID_FILE = str(tmp_path / "cron.pid")
        make_action_job("sleep 1")
        make_action_job("sleep 1")

        def tick() -> float:
            import time

            from chroniker.engine.entrypoints import run_single_tick

            begun = time.monotonic()
            run_single_tick()
            return time.monotonic() - begun

        ticks = [run_in_fork(tick) for _ in range(4)]
        seconds = sorted(one.wait(30).value for one in ticks)
        assert Run.objects.filter(status="succeeded").count() == 2
        assert seconds[0] < 0.9, "one waits; further ones leave it to that one"
        assert seconds[-1] > 0.9

    def test_with_lock_files_a_job_whose_process_lives_on_is_not_started(
        self, run_tick: RunTick, settings: Any, tmp_path: Path
    ) -> None:
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path)
        job = make_due_job()
        run_tick(only=frozenset())
        state = JobState.objects.get(job=job)
        with open(tmp_path / f"job-{state.pk}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            run_tick()
            run = Run.objects.get(job=job)
            assert run.status == "failed" and "still holds" in run.error
        make_due(job)
        run_tick()
        assert Run.objects.order_by("id").last().status == "succeeded"  # type: ignore[union-attr]

    @pytest.mark.one_database
    def test_a_lock_file_that_cannot_be_had_fails_its_run_and_not_the_tick(
        self, run_tick: RunTick, settings: Any, tmp_path: Path
    ) -> None:
        settings.CHRONIKER_CHECK_LOCK_FILE = True
        settings.CHRONIKER_RUNTIME_DIR = str(tmp_path)
        job, other = make_due_job(), make_due_job()
        run_tick(only=frozenset())
        (tmp_path / f"job-{JobState.objects.get(job=job).pk}.lock").mkdir()
        assert run_tick().exit_code == 0
        run = Run.objects.get(job=job)
        assert run.status == "failed" and "cannot be locked" in run.error
        assert Run.objects.get(job=other).status == "succeeded"


class TestIdleTick:
    def queries(self) -> list[str]:
        from chroniker.engine.scheduler import Scheduler

        with CaptureQueriesContext(
            connection,
        ) as captured:
            Scheduler().run()
        return [query["sql"] for query in captured.captured_queries]

    @pytest.mark.parametrize("jobs", [10, 2000])
    def test_query_count_is_independent_of_job_count(self, jobs: int) -> None:
        from chroniker.engine.scheduler import Scheduler

        Job.objects.bulk_create(
            Job(name=f"job {n}", command="noop", schedule="@every 1h") for n in range(jobs)
        )
        Scheduler().run()
        assert len(self.queries()) <= 4

    def test_is_silent(self, run_tick: RunTick) -> None:
        make_job(schedule="@every 1h")
        run_tick()
        assert run_tick().output == ""
