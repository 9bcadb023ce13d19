"""Which slots, retries and requests are claimed, and by which host."""

from __future__ import annotations

import multiprocessing
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from chroniker.alerting import incidents
from chroniker.db.transactions import run_transaction
from chroniker.engine.candidates import ClaimOptions, due_state_ids
from chroniker.engine.claims import ClaimedRun, ClaimResult, block_state, claim, new_token
from chroniker.engine.job_names import find_jobs
from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import BlockedReason, IncidentKind, Severity
from chroniker.models import (
    Host,
    Incident,
    Job,
    JobDependency,
    JobState,
    Maintenance,
    MaintenanceJob,
    Run,
)
from tests.factories import (
    NOON,
    make_action_job,
    make_due,
    make_due_job,
    make_job,
    make_monitor,
    make_running,
)
from tests.support.types import RunInFork, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestRetries:
    def test_retry_delay_doubles_until_retries_are_used_up(self, run_tick: RunTick) -> None:
        job = make_action_job("exit 1", max_retries=2, retry_delay_seconds=100)
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
        job = make_action_job("exit 1", max_retries=2)
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

    def test_arguments_of_a_request_are_those_of_one_run(self, run_tick: RunTick) -> None:
        job = make_job(command="act", args="say hello", schedule="@every 1h")
        run_tick()
        JobState.objects.filter(job=job).request_run(now(), args="exit 3")
        run_tick()
        assert JobState.objects.get(job=job).run_requested_args is None
        make_due(job)
        run_tick()
        JobState.objects.filter(job=job).request_run(now())
        run_tick()
        runs = Run.objects.filter(job=job).order_by("id")
        assert [(run.trigger, run.args, run.exit_code) for run in runs] == [
            ("manual", "exit 3", 3), ("schedule", None, 0), ("manual", None, 0),
        ]  # fmt: skip

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

    @pytest.mark.slow
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
    @pytest.mark.slow
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


@pytest.mark.slow
def test_retry_does_not_collide_with_a_run_for_the_same_slot(run_tick: RunTick) -> None:
    first = make_action_job("exit 1", max_retries=1, retry_delay_seconds=1000)
    then = make_job(command="act", args="exit 1", max_retries=2, retry_delay_seconds=1000)
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
    job = make_action_job("exit 1", max_retries=3, retry_delay_seconds=1000)
    run_tick()
    Job.objects.update(enabled=False)
    run_tick()
    JobState.objects.update(retry_at=now() - timedelta(seconds=1), retry_slot_at=now())
    run_tick()
    assert Run.objects.filter(job=job).count() == 1
    assert JobState.objects.get(job=job).retry_at is None


SLOT = NOON
HOUR = timedelta(hours=1)


def make_hourly_job(*, first_slot: datetime = SLOT, **fields: Any) -> Job:
    """A planned job with a slot each hour from ``first_slot``."""
    job = make_job(schedule="@every 1h", created_at=first_slot - HOUR, **fields)
    Host.objects.get_or_create(name="web1")
    plan_changed_jobs(first_slot - HOUR)
    return job


def make_options(**limits: Any) -> ClaimOptions:
    return ClaimOptions(**{"host": "web1", "owner": "tick-1-a.lock", "max_parallel": 10} | limits)


MONITORS = ["monitor 1", "monitor 2"]


def claim_at(
    moment: datetime, *, token: str = "", horizon: datetime | None = None, force: bool = False,
    **limits: Any,
) -> ClaimResult:  # fmt: skip
    return run_transaction(
        lambda: claim(
            make_options(**limits), horizon or moment, moment, token or new_token(), force=force
        )
    )


def claim_one(moment: datetime, **options: Any) -> ClaimedRun:
    (item,) = claim_at(moment, **options).started
    return item


def state_of(job: Job) -> JobState:
    return JobState.objects.get(job=job)


def release_all() -> None:
    """End every run, without any effect on its state."""
    Run.objects.running().update(status="succeeded", ended_at=SLOT)
    JobState.objects.update(lease_token=None, current_run=None, lease_host="")


class TestStartLag:
    """This is a contract: the metric ``chroniker_job_start_lag_seconds`` is computed from it."""

    def test_lag_of_a_scheduled_run_is_observed(self) -> None:
        job = make_hourly_job()
        claim_at(SLOT + timedelta(seconds=90))
        state = state_of(job)
        assert (state.start_lag_seconds_sum, state.start_lag_count) == (90, 1)
        ((bound, count),) = state.start_lag_buckets.items()
        assert float(bound) >= 90 and count == 1

    def test_lags_add_up(self) -> None:
        job = make_hourly_job()
        claim_at(SLOT + timedelta(seconds=90))
        release_all()
        claim_at(SLOT + HOUR + timedelta(seconds=2.5))
        state = state_of(job)
        assert (state.start_lag_seconds_sum, state.start_lag_count) == (92.5, 2)
        assert sum(state.start_lag_buckets.values()) == 2
        assert min(float(bound) for bound in state.start_lag_buckets) < 90

    def test_lag_counts_from_the_start_time_that_the_jitter_gives(self) -> None:
        job = make_hourly_job(jitter_seconds=600)
        start = state_of(job).next_run_at
        assert start is not None and start > SLOT
        claim_at(start + timedelta(seconds=5))
        assert state_of(job).start_lag_seconds_sum == 5

    def test_run_that_was_not_scheduled_has_no_lag(self) -> None:
        job = make_hourly_job()
        JobState.objects.request_run(SLOT - timedelta(minutes=10))
        claim_at(SLOT - timedelta(minutes=5))
        assert (state_of(job).start_lag_count, state_of(job).start_lag_seconds_sum) == (0, 0)
        assert Run.objects.get().trigger == "manual"

    def test_lag_is_never_negative(self) -> None:
        job = make_hourly_job()
        claim_at(SLOT - timedelta(seconds=5), horizon=SLOT)
        assert (state_of(job).start_lag_count, state_of(job).start_lag_seconds_sum) == (1, 0)


class TestOpenedRuns:
    def test_run_and_lease_name_their_owner(self, settings: Any) -> None:
        settings.CHRONIKER_LEASE_SECONDS = 30
        job = make_hourly_job()
        JobState.objects.update(
            blocked_reason="capacity", blocked_detail="full", stop_requested_at=SLOT,
            parts_total=5, parts_done=2, progress_at=SLOT,
        )  # fmt: skip
        moment = SLOT + timedelta(seconds=3)
        item = claim_one(moment, token="my token")
        state, run = state_of(job), Run.objects.get()
        assert (item.token, item.run, item.state, item.job) == ("my token", run, state, job)
        assert (state.lease_token, state.lease_host, state.lease_owner) == (
            "my token", "web1", "tick-1-a.lock",
        )  # fmt: skip
        assert timedelta(seconds=20) < state.lease_expires_at - now() < timedelta(seconds=31)  # type: ignore[operator]
        assert state.current_run == run
        assert (state.last_started_at, state.next_slot_at) == (moment, SLOT + HOUR)
        assert (state.blocked_reason, state.blocked_detail) == ("", "")
        assert state.stop_requested_at is None
        assert (state.parts_total, state.parts_done, state.progress_at) == (None, None, None)
        assert (run.status, run.trigger, run.attempt) == ("running", "schedule", 1)
        assert (run.scheduled_for, run.started_at, run.ran_on) == (SLOT, moment, "web1")

    def test_runs_with_a_downstream_are_marked(self) -> None:
        first = make_hourly_job(priority=1)
        then = make_hourly_job()
        JobDependency.objects.create(downstream=then, upstream=first, wait_for_success=False,
                                     wait_for_completion=False)  # fmt: skip
        started = claim_at(SLOT).started
        assert [(item.job, item.has_downstream) for item in started] == [
            (first, True), (then, False),
        ]  # fmt: skip

    def test_second_run_of_a_slot_has_the_next_attempt(self) -> None:
        job = make_hourly_job()
        claim_at(SLOT)
        release_all()
        JobState.objects.update(next_slot_at=SLOT, next_run_at=SLOT)  # the clock was set back
        assert claim_one(SLOT).run.attempt == 2
        release_all()
        JobState.objects.filter(job=job).request_run(SLOT - timedelta(seconds=1))
        assert claim_one(SLOT).run.attempt == 1, "another slot"

    def test_overdue_incident_is_resolved_by_the_start(self) -> None:
        job, other = make_hourly_job(), make_hourly_job(first_slot=SLOT + HOUR)
        for each in (job, other):
            incidents.open_or_update(
                each, "", IncidentKind.OVERDUE, Severity.WARNING, "It is late.", SLOT
            )
        JobState.objects.update(overdue_incident=True)
        claim_at(SLOT)
        assert Incident.objects.open().get().job == other
        assert not state_of(job).overdue_incident and state_of(other).overdue_incident

    def test_invalid_schedule_at_the_moment_of_the_claim_blocks_the_job(self) -> None:
        job = make_hourly_job()
        Job.objects.update(schedule="nonsense")
        job.refresh_from_db()
        Job.objects.update(planned_from=job.definition)
        result = claim_at(SLOT)
        assert (result.started, result.missed) == ([], [])
        state = state_of(job)
        assert (state.lease_token, state.lease_host, state.lease_owner) == (None, "", "")
        assert state.lease_expires_at is None
        assert (state.next_slot_at, state.next_run_at) == (None, None)
        assert state.blocked_reason == "schedule" and "nonsense" in state.blocked_detail


class TestMissedSlots:
    def test_missed_slots_have_one_row_and_a_counter(self) -> None:
        job = make_hourly_job()
        result = claim_at(SLOT + 3 * HOUR)
        (missed,) = result.missed
        assert Run.objects.get(status="missed") == missed
        missed.refresh_from_db()
        assert (missed.scheduled_for, missed.missed_slots, missed.missed_reason) == (
            SLOT, 3, "downtime",
        )  # fmt: skip
        assert (missed.attempt, missed.trigger, missed.ended_at) == (
            0, "schedule", SLOT + 3 * HOUR,
        )  # fmt: skip
        assert result.started[0].run.scheduled_for == SLOT + 3 * HOUR
        assert state_of(job).missed_downtime == 3
        assert state_of(job).next_run_at == SLOT + 4 * HOUR

    def test_slots_in_a_pausing_window_are_planned(self) -> None:
        """From before the first slot to the second; another window mutes only."""
        job, other = make_hourly_job(), make_hourly_job()
        window = Maintenance.objects.create(
            starts_at=SLOT - HOUR, ends_at=SLOT + HOUR + timedelta(minutes=1), pause=True
        )
        MaintenanceJob.objects.create(maintenance=window, job=job)
        Maintenance.objects.create(starts_at=SLOT - HOUR, ends_at=SLOT + 9 * HOUR)
        claim_at(SLOT + 3 * HOUR)
        missed = Run.objects.filter(status="missed").order_by("job", "scheduled_for")
        assert [(r.job_id, r.scheduled_for, r.missed_slots, r.missed_reason) for r in missed] == [
            (job.pk, SLOT, 2, "paused"),
            (job.pk, SLOT + 2 * HOUR, 1, "downtime"),
            (other.pk, SLOT, 3, "downtime"),
        ]
        assert (state_of(job).missed_paused, state_of(job).missed_downtime) == (2, 1)

    def test_slots_that_waited_for_another_job_are_planned(self) -> None:
        job, other = make_hourly_job(), make_hourly_job()
        JobState.objects.filter(job=job).update(
            blocked_reason=BlockedReason.DEPENDENCY, blocked_detail="import is running"
        )
        claim_at(SLOT + 2 * HOUR)
        assert (state_of(job).missed_dependency, state_of(job).missed_downtime) == (2, 0)
        assert (state_of(other).missed_dependency, state_of(other).missed_downtime) == (0, 2)
        assert (state_of(job).blocked_reason, state_of(job).blocked_detail) == ("", "")

    def test_slots_missed_again_after_the_clock_was_set_back_are_added_to_their_row(self) -> None:
        job = make_hourly_job()
        for missed in (1, 2):
            assert len(claim_at(SLOT + missed * HOUR).missed) == (missed == 1)
            release_all()
            JobState.objects.update(next_slot_at=SLOT, next_run_at=SLOT)
        assert Run.objects.get(status="missed").missed_slots == 3
        assert state_of(job).missed_downtime == 3

    def test_state_without_a_slot_to_run_is_released(self) -> None:
        job = make_hourly_job(start_deadline_seconds=60)
        result = claim_at(SLOT + timedelta(seconds=61))
        assert result.started == []
        (missed,) = result.missed
        assert (missed.missed_reason, missed.missed_slots) == ("deadline", 1)
        state = state_of(job)
        assert (state.lease_token, state.lease_host, state.lease_owner) == (None, "", "")
        assert (state.missed_deadline, state.start_lag_count) == (1, 0)
        assert state.next_slot_at == SLOT + HOUR


class TestRetriesOfSlots:
    def make_failed_job(self) -> Job:
        """A job whose slot is to be retried."""
        job = make_hourly_job()
        claim_at(SLOT)
        release_all()
        JobState.objects.update(
            retry_at=SLOT + timedelta(minutes=5), retry_slot_at=SLOT, retry_attempt=2
        )
        return job

    def test_retry_that_is_due_runs_its_slot_again(self) -> None:
        job = self.make_failed_job()
        assert claim_at(SLOT + timedelta(minutes=4)).started == []
        run = claim_one(SLOT + timedelta(minutes=5)).run
        assert (run.trigger, run.attempt, run.scheduled_for) == ("retry", 2, SLOT)
        state = state_of(job)
        assert (state.retry_at, state.retry_slot_at, state.retries_total) == (None, None, 1)
        assert state.start_lag_count == 1, "of the first attempt"
        assert state.next_slot_at == SLOT + HOUR

    def test_retry_is_superseded_by_a_slot_that_is_due(self) -> None:
        job = self.make_failed_job()
        run = claim_one(SLOT + HOUR).run
        assert (run.trigger, run.attempt, run.scheduled_for) == ("schedule", 1, SLOT + HOUR)
        state = state_of(job)
        assert (state.retry_at, state.retry_slot_at, state.retries_total) == (None, None, 0)

    def test_retry_is_dropped_when_its_slot_is_run_on_request(self) -> None:
        job = self.make_failed_job()
        JobState.objects.request_run(SLOT)
        run = claim_one(SLOT + timedelta(minutes=1)).run
        assert (run.trigger, run.scheduled_for, run.attempt) == ("manual", SLOT, 2)
        state = state_of(job)
        assert (state.retry_at, state.retry_slot_at) == (None, None)

    def test_an_interrupted_request_is_started_again_with_its_own_arguments(self) -> None:
        make_hourly_job()
        JobState.objects.request_run(SLOT - HOUR / 2, args="--since yesterday")
        first = claim_one(SLOT - HOUR / 2).run
        assert (first.trigger, first.args) == ("manual", "--since yesterday")
        release_all()
        JobState.objects.update(
            restart_at=SLOT - HOUR / 3, restart_slot_at=first.scheduled_for, restart_attempt=2,
            restart_trigger="manual",
        )  # fmt: skip
        again = claim_one(SLOT - HOUR / 3).run
        assert (again.attempt, again.args) == (2, "--since yesterday")
        release_all()
        assert claim_one(SLOT).run.args is None

    def test_retry_survives_a_request_for_another_moment(self) -> None:
        job = self.make_failed_job()
        JobState.objects.request_run(SLOT + timedelta(minutes=1))
        claim_at(SLOT + timedelta(minutes=1))
        state = state_of(job)
        assert (state.retry_at, state.retry_slot_at) == (SLOT + timedelta(minutes=5), SLOT)


class TestRequestedRuns:
    def test_forced_run_is_for_now_and_clears_the_request(self) -> None:
        job = make_hourly_job()
        JobState.objects.request_run(SLOT - 2 * HOUR)
        moment = SLOT - timedelta(minutes=7)
        run = claim_one(moment, force=True, only=frozenset([job.pk])).run
        assert (run.trigger, run.scheduled_for) == ("manual", moment)
        state = state_of(job)
        assert (state.run_requested_at, state.run_requested_by) == (None, "")
        assert state.next_slot_at == SLOT, "the schedule continues"

    def test_run_requested_by_a_dependency_says_so(self) -> None:
        make_hourly_job()
        JobState.objects.update(run_requested_at=SLOT - HOUR, run_requested_by="dependency")
        run = claim_one(SLOT - timedelta(minutes=7)).run
        assert (run.trigger, run.scheduled_for) == ("dependency", SLOT - HOUR)

    def test_running_job_is_not_forced(self) -> None:
        job = make_hourly_job()
        claim_at(SLOT)
        assert claim_at(SLOT, force=True, only=frozenset([job.pk])).started == []


class TestLimits:
    def test_running_jobs_of_the_host_count_against_its_capacity(self) -> None:
        for _ in range(3):
            make_hourly_job()
        make_running(make_job(), lease_host="web1")
        make_running(make_job(), lease_host="web2")
        assert claim_at(SLOT, max_parallel=1).started == []
        assert len(claim_at(SLOT, max_parallel=3).started) == 2
        assert claim_at(SLOT, max_parallel=3).started == []

    def test_forced_monitors_take_a_place_each(self) -> None:
        monitors = [make_monitor(schedule="@every 1h") for _ in range(5)]
        Host.objects.create(name="web1")
        plan_changed_jobs(SLOT)
        only = frozenset(monitor.pk for monitor in monitors)
        options = {"max_parallel": 2, "batch_room": 500, "only": only, "force": True}
        first = claim_at(SLOT, token=new_token(force=True), **options)
        assert (len(first.started), first.at_capacity) == (2, True)
        assert claim_at(SLOT, token=new_token(force=True), **options).started == []

    @pytest.mark.parametrize(
        ("priority", "ago", "claimed"),
        [(1, 0, ["job"]), (0, 1, ["job"]), (0, -1, MONITORS), (-1, 1, MONITORS)],
    )
    def test_batch_takes_the_last_place_only_if_it_comes_first(
        self, priority: int, ago: int, claimed: list[str]
    ) -> None:
        for name in MONITORS:
            make_monitor(name=name, schedule="@every 1h")
        make_job(name="job", schedule="@every 1h", priority=priority)
        Host.objects.create(name="web1")
        plan_changed_jobs(SLOT)
        JobState.objects.update(next_run_at=SLOT, next_slot_at=SLOT)
        due = SLOT - timedelta(minutes=ago)
        JobState.objects.filter(job__name="job").update(next_run_at=due, next_slot_at=due)
        found = claim_at(SLOT + HOUR / 2, max_parallel=1, batch_room=500)
        assert [item.job.name for item in found.started] == claimed
        more = claim_at(SLOT + HOUR / 2, max_parallel=2, batch_room=500)
        assert sorted(item.job.name for item in found.started + more.started) == ["job", *MONITORS]

    def test_higher_priority_is_claimed_first_and_then_what_is_due_longest(self) -> None:
        late = make_hourly_job(first_slot=SLOT + timedelta(minutes=1))
        early, urgent = make_hourly_job(), make_hourly_job(priority=1)
        moment = SLOT + timedelta(minutes=2)
        order = [urgent, early, late]
        assert due_state_ids(make_options(), moment) == [state_of(job).pk for job in order]
        assert due_state_ids(make_options(max_parallel=2), moment) == [
            state_of(job).pk for job in order[:2]
        ]
        assert [claim_one(moment, max_parallel=n + 1).job for n in range(3)] == order

    def test_only_chosen_jobs_and_states_are_claimed(self) -> None:
        jobs = [make_hourly_job() for _ in range(3)]
        assert claim_one(SLOT, only=frozenset([jobs[1].pk])).job == jobs[1]
        assert claim_one(SLOT, only_states=frozenset([state_of(jobs[2]).pk])).job == jobs[2]
        assert due_state_ids(make_options(only=frozenset([jobs[0].pk])), SLOT - HOUR) == [
            state_of(jobs[0]).pk
        ], "chosen by name, so it need not be due"
        assert due_state_ids(make_options(), SLOT - HOUR) == []

    def test_paused_host_claims_nothing(self) -> None:
        make_hourly_job()
        Host.objects.update(paused=True)
        assert claim_at(SLOT).started == []

    @pytest.mark.parametrize("lock_rows", [True, False, None])
    def test_job_is_claimed_once_with_and_without_row_locks(
        self, settings: Any, lock_rows: bool | None
    ) -> None:
        settings.CHRONIKER_SELECT_FOR_UPDATE = lock_rows
        first, then = make_hourly_job(priority=-1), make_hourly_job()
        JobDependency.objects.create(downstream=then, upstream=first)
        assert claim_one(SLOT).job == first, "the other waits for it"
        assert claim_at(SLOT).started == []


class TestRepeatedClaims:
    def test_repeated_claim_returns_the_same_runs_and_renews_their_leases(self) -> None:
        make_hourly_job()
        first = claim_one(SLOT, token="my token")
        JobState.objects.update(lease_expires_at=now() - timedelta(days=1))
        again = claim_one(SLOT, token="my token")
        assert (again.run, again.token) == (first.run, "my token")
        assert state_of(first.job).lease_expires_at > now()  # type: ignore[operator]
        assert state_of(first.job).start_lag_count == 1
        assert Run.objects.count() == 1

    def test_repeated_claim_of_many_runs_costs_no_statement_for_each(self) -> None:
        statements = []
        for number in (2, 8):
            jobs = [make_hourly_job() for _ in range(number)]
            claimed = claim_at(SLOT, token=f"token {number}").started
            with CaptureQueriesContext(connection) as captured:
                again = claim_at(SLOT, token=f"token {number}").started
            assert [item.run for item in again] == [item.run for item in claimed]
            assert len(again) == len(jobs)
            statements.append(len(captured))
            JobState.objects.update(lease_token=None, lease_expires_at=None, current_run=None)
        assert statements[0] == statements[1]


class TestBlockState:
    def test_blocked_state_leaves_the_queue(self) -> None:
        job = make_hourly_job()
        JobState.objects.request_run(SLOT)
        JobState.objects.update(retry_at=SLOT)
        block_state(state_of(job).pk, BlockedReason.COMMAND, "x" * 600, SLOT)
        state = state_of(job)
        assert (state.due_at, state.next_slot_at, state.run_requested_by) == (None, None, "")
        assert (state.blocked_reason, state.blocked_detail) == ("command", "x" * 500)
        incident = Incident.objects.get()
        assert (incident.kind, state.overdue_incident) == ("blocked", True)
        assert incident.summary.startswith("It cannot be started: xx")
        # Only a changed definition gives it another try.
        Job.objects.update(schedule="@every 3h")
        plan_changed_jobs(SLOT)
        incident.refresh_from_db()
        assert (incident.ended_by, state_of(job).overdue_incident) == ("changed", False)

    def test_state_with_an_owner_is_not_blocked(self) -> None:
        state = make_running(make_hourly_job())
        block_state(state.pk, BlockedReason.COMMAND, "refused", SLOT)
        state.refresh_from_db()
        assert (state.blocked_reason, state.next_slot_at) == ("", SLOT)


class TestFindJobs:
    def test_jobs_are_found_by_name_or_else_by_key(self) -> None:
        one, two = make_job(name="one"), make_job(name="two")
        named = make_job(name=str(two.pk))
        found, unknown = find_jobs([" one ", str(one.pk), str(two.pk)])
        assert sorted(job.name for job in found) == sorted([one.name, named.name])
        assert unknown == []

    def test_unknown_names_are_returned(self) -> None:
        job = make_job(name="one")
        unknown = ["nobody", "-1", str(job.pk + 1), "9" * 18, "9" * 40]
        assert find_jobs(["one", *unknown]) == ([job], unknown)
