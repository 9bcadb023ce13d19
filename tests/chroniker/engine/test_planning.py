"""When a job gets its next slot, and what happens to slots that have passed."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chroniker.engine.planning import (
    MissedSlots,
    decide_slots,
    plan_changed_jobs,
    plan_for_new_host,
    start_time,
)
from chroniker.enums import MissedReason
from chroniker.models import Host, Incident, Job, JobState, Run
from chroniker.schedules import parse
from tests.factories import NOON, make_action_job, make_due_job, make_incident, make_job
from tests.support.processes import wait_until
from tests.support.types import RunManage, RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestPlanning:
    def test_new_job_counts_from_its_creation(self, run_tick: RunTick) -> None:
        created = now() - timedelta(minutes=30)
        job = make_job(schedule="@every 1h", created_at=created)
        run_tick()
        state = JobState.objects.get(job=job)
        assert state.next_run_at == created + timedelta(hours=1)
        assert not Run.objects.exists()
        assert not Job.objects.needing_planning().exists()

    @pytest.mark.parametrize("how", ["save", "update", "bulk_update"])
    def test_changed_schedule_counts_from_the_next_tick(self, run_tick: RunTick, how: str) -> None:
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

    def test_stale_form_cannot_hide_a_schedule_change(self, run_tick: RunTick) -> None:
        job = make_job(schedule="@every 10h")
        run_tick()
        old = Job.objects.get(pk=job.pk)
        Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
        run_tick()
        old.save()  # back to ten hours, with the old planning note
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

    def test_failures_before_a_job_was_disabled_do_not_count_when_it_is_enabled(self) -> None:
        """Prometheus alerts by the counter, and the incident was closed."""
        job, other = (make_job(schedule="@every 1h") for _ in range(2))
        plan()
        JobState.objects.update(consecutive_failures=2)
        Job.objects.filter(pk=other.pk).update(schedule="@every 2h")
        for enabled, failures in ((False, 0), (True, 0)):
            Job.objects.filter(pk=job.pk).update(enabled=enabled)
            plan()
            assert JobState.objects.get(job=job).consecutive_failures == failures
            JobState.objects.filter(job=job).update(consecutive_failures=1)  # a run that still ran
        assert JobState.objects.get(job=other).consecutive_failures == 2

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
        assert JobState.objects.get(job=bad).blocked_reason == "schedule"

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

    def test_slots_during_a_run_are_skipped_as_overlap(
        self, start_tick: StartTick, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        created = now() - timedelta(seconds=1.1)
        job = make_action_job(f"sleep 2.2 {started}", schedule="@every 1s", created_at=created)
        tick = start_tick()
        wait_until(started.exists)
        Job.objects.update(args="say done")  # the next late start is shorter
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

    def test_clock_set_back_does_not_stop_the_job(self, run_tick: RunTick) -> None:
        job = make_due_job()
        run_tick()
        state = JobState.objects.get(job=job)
        again = Run.objects.get(job=job).scheduled_for
        JobState.objects.filter(pk=state.pk).update(next_slot_at=again, next_run_at=again)
        run_tick()
        assert list(Run.objects.order_by("id").values_list("attempt", "status")) == [
            (1, "succeeded"), (2, "succeeded"),
        ]  # fmt: skip


def test_hosts_jobs_are_planned_even_if_its_first_tick_died(
    run_tick: RunTick, settings: Any
) -> None:
    from chroniker.engine.heartbeat import record_heartbeat

    job = make_job(hostname="*")
    run_tick()
    settings.CHRONIKER_HOSTNAME = "web2"
    record_heartbeat("web2")  # the tick dies after its heartbeat
    run_tick()
    assert JobState.objects.filter(job=job, host="web2").exists()


MINUTE = timedelta(minutes=1)
quick = hypothesis_settings(max_examples=60, deadline=None)
minutes = st.integers(0, 300).map(lambda number: timedelta(minutes=number))


class TestDecideSlots:
    """Every quarter of an hour from noon; what is due is decided later."""

    schedules = st.sampled_from(["@every 15m", "*/15 * * * *"])

    @quick
    @given(
        text=schedules,
        late=minutes,
        deadline=st.none() | st.integers(1, 3600),
        ended=st.none() | st.integers(-60, 300),
        jitter=st.sampled_from([0, 0, 600, 3600]),
        windows=st.lists(st.tuples(st.integers(-60, 600), st.integers(1, 200)), max_size=3),
        waited=st.booleans(),
    )
    def test_each_due_slot_is_run_or_missed_once(
        self,
        text: str,
        late: timedelta,
        deadline: int | None,
        ended: int | None,
        jitter: int,
        windows: list[tuple[int, int]],
        waited: bool,
    ) -> None:
        job = Job(name="a job", start_deadline_seconds=deadline, jitter_seconds=jitter)
        moment = start_time(job, NOON) + late
        slots = [NOON + number * 15 * MINUTE for number in range(40)]
        last_ended_at = None if ended is None else NOON + ended * MINUTE
        paused = [(NOON + start * MINUTE, NOON + (start + n) * MINUTE) for start, n in windows]

        decision = decide_slots(
            job, parse(text, zone="UTC", name=""), NOON, moment, last_ended_at,
            paused=paused, waited=waited,
        )  # fmt: skip

        last = [slot for slot in slots if start_time(job, slot) <= moment and slot <= moment][-1]
        passed = slots[: slots.index(last)]
        assert decision.next_slot == slots[len(passed) + 1]
        too_late = (moment - start_time(job, last)).total_seconds() > (deadline or 10**9)
        assert decision.slot == (None if too_late else last)

        def reason(slot: datetime) -> MissedReason:
            if any(start <= slot < stop for start, stop in paused):
                return MissedReason.PAUSED
            if too_late:
                return MissedReason.DEADLINE
            if last_ended_at is not None and slot <= last_ended_at:
                return MissedReason.OVERLAP
            return MissedReason.DEPENDENCY if waited else MissedReason.DOWNTIME

        missed = [*passed, last] if too_late else passed
        groups = [(why, [*found]) for why, found in groupby(missed, reason)]
        assert decision.missed == tuple(
            MissedSlots(found[0], len(found), why) for why, found in groups
        )

    def test_slot_at_the_deadline_is_still_run(self) -> None:
        job = Job(name="a job", start_deadline_seconds=60)
        schedule = parse("@every 15m", zone="UTC", name="")
        assert decide_slots(job, schedule, NOON, NOON + MINUTE, None).slot == NOON
        late = NOON + MINUTE + timedelta(microseconds=1)
        assert decide_slots(job, schedule, NOON, late, None).slot is None

    def test_jitter_delays_a_slot_by_at_most_its_length(self) -> None:
        job = Job(name="a job", jitter_seconds=600)
        starts = {start_time(job, NOON + n * MINUTE) - (NOON + n * MINUTE) for n in range(50)}
        assert len(starts) > 10
        assert timedelta() <= min(starts) and max(starts) <= timedelta(seconds=600)
        assert start_time(Job(name="a job"), NOON) == NOON


def plan(moment: Any = NOON) -> int:
    return plan_changed_jobs(moment)


class TestPlans:
    def test_all_changed_jobs_are_planned_in_batches(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("chroniker.engine.planning._BATCH", 2)
        for _ in range(5):
            make_job(schedule="@every 1h", created_at=NOON)
        assert plan() == 5
        assert plan() == 0
        assert set(JobState.objects.values_list("next_slot_at", "next_run_at", "host")) == {
            (NOON + 60 * MINUTE, NOON + 60 * MINUTE, "")
        }

    def test_new_job_counts_from_its_creation_but_not_from_the_future(self) -> None:
        made = {
            delta: make_job(schedule="@every 1h", created_at=NOON + delta * MINUTE)
            for delta in (-10, 10)
        }
        plan()
        slots = {job: JobState.objects.get(job=job).next_slot_at for job in made.values()}
        assert slots == {made[-10]: NOON + 50 * MINUTE, made[10]: NOON + 60 * MINUTE}

    def test_changed_job_counts_from_now_and_is_not_retried(self) -> None:
        job = make_job(schedule="@every 1h", created_at=NOON)
        plan()
        JobState.objects.update(retry_at=NOON, blocked_reason="command", blocked_detail="refused")
        Job.objects.update(schedule="@every 2h")
        plan(NOON + 30 * MINUTE)
        state = JobState.objects.get(job=job)
        assert state.next_slot_at == NOON + 150 * MINUTE
        assert (state.retry_at, state.blocked_reason, state.blocked_detail) == (None, "", "")

    def test_changed_job_without_a_placement_so_far_counts_from_now(self) -> None:
        make_job(schedule="@every 1h", created_at=NOON, hostname="*")
        plan()
        assert not JobState.objects.exists(), "no host has ticked"
        Job.objects.update(hostname="")
        plan(NOON + 30 * MINUTE)
        assert JobState.objects.get().next_slot_at == NOON + 90 * MINUTE

    def test_job_with_a_state_that_a_request_created_counts_from_its_creation(self) -> None:
        job = make_job(schedule="@every 1h", created_at=NOON - 30 * MINUTE)
        JobState.objects.create(job=job)
        plan()
        assert JobState.objects.get().next_slot_at == NOON + 30 * MINUTE

    def test_invalid_schedule_blocks_and_logs(self, caplog: Any) -> None:
        job = make_job(schedule="@every 1h", created_at=NOON)
        plan()
        Job.objects.update(schedule="nonsense")
        new = make_job(schedule="nonsense")
        plan()
        for each in (job, new):
            state = JobState.objects.get(job=each)
            assert (state.next_slot_at, state.blocked_reason) == (None, "schedule")
            assert "nonsense" in state.blocked_detail
            assert f"Job {each.name} is skipped" in caplog.text

    def test_jitter_is_part_of_the_plan(self) -> None:
        job = make_job(schedule="@every 1h", created_at=NOON, jitter_seconds=600)
        plan()
        state = JobState.objects.get()
        slot = NOON + 60 * MINUTE
        assert (state.next_slot_at, state.next_run_at) == (slot, start_time(job, slot))
        Job.objects.update(schedule="@every 2h")
        plan()
        state.refresh_from_db()
        assert state.next_run_at == start_time(job, NOON + 120 * MINUTE)


class TestPlacements:
    @pytest.fixture(autouse=True)
    def _hosts(self) -> None:
        Host.objects.bulk_create([Host(name="web1"), Host(name="web2")])

    def slots(self) -> dict[str, Any]:
        return dict(JobState.objects.values_list("host", "next_slot_at"))

    def test_job_of_every_host_is_planned_for_each(self) -> None:
        make_job(schedule="@every 1h", created_at=NOON, hostname="*")
        plan()
        slot = NOON + 60 * MINUTE
        assert self.slots() == {"web1": slot, "web2": slot}

    def test_placement_that_the_job_no_longer_has_is_not_planned(self) -> None:
        job = make_job(schedule="@every 1h", created_at=NOON)
        plan()
        JobState.objects.update(retry_at=NOON, runs_total=7)
        JobState.objects.request_run(NOON)
        Job.objects.update(hostname="*")
        plan()
        slot = NOON + 60 * MINUTE
        assert self.slots() == {"": None, "web1": slot, "web2": slot}
        former = JobState.objects.get(host="")
        assert (former.due_at, former.run_requested_by, former.runs_total) == (None, "", 7)
        Job.objects.update(hostname="web1")
        plan()
        assert self.slots() == {"": slot, "web1": None, "web2": None}
        assert not Job.objects.needing_planning().exists()
        assert JobState.objects.filter(job=job).count() == 3

    def test_new_host_gets_the_jobs_of_every_host(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("chroniker.engine.planning._BATCH", 2)
        everywhere = [
            make_job(schedule="@every 1h", created_at=NOON, hostname="*") for _ in range(3)
        ]
        make_job(schedule="@every 1h", created_at=NOON)
        plan()
        plan_for_new_host("web3", NOON + 10 * MINUTE)
        states = JobState.objects.filter(host="web3").order_by("job")
        assert [state.job for state in states] == everywhere
        assert {state.next_slot_at for state in states} == {NOON + 70 * MINUTE}
        plan_for_new_host("web3", NOON + 20 * MINUTE)
        assert {state.next_slot_at for state in states.all()} == {NOON + 70 * MINUTE}


class TestWithdrawnIncidents:
    @pytest.fixture
    def job(self) -> Job:
        Host.objects.create(name="web1")
        job = make_job(schedule="@every 1h", created_at=NOON)
        plan()
        return job

    def kinds(self, job: Job) -> set[tuple[str, str]]:
        return set(Incident.objects.open().filter(job=job).values_list("kind", "host"))

    def make_both(self, job: Job, host: str = "") -> None:
        for kind in ("failing", "overdue"):
            make_incident(job, kind=kind, host=host)

    def test_disabled_job_has_none(self, job: Job) -> None:
        self.make_both(job)
        Job.objects.update(enabled=False)
        plan()
        assert self.kinds(job) == set()

    def test_changed_definition_closes_overdue_only(self, job: Job) -> None:
        self.make_both(job)
        Job.objects.update(schedule="@every 2h")
        plan()
        assert self.kinds(job) == {("failing", "")}

    def test_placement_that_is_gone_has_none(self, job: Job) -> None:
        self.make_both(job)
        Job.objects.update(hostname="*")
        plan()
        assert self.kinds(job) == set()
        self.make_both(job, "web1")
        self.make_both(job, "web9")
        Job.objects.update(schedule="@every 2h")
        plan()
        assert self.kinds(job) == {("failing", "web1")}

    def test_incidents_of_other_jobs_stay(self, job: Job) -> None:
        other = make_job(schedule="@every 1h", created_at=NOON)
        plan()
        self.make_both(other)
        Job.objects.filter(pk=job.pk).update(enabled=False)
        plan()
        assert self.kinds(other) == {("failing", ""), ("overdue", "")}
