"""When a job gets its next slot, and what happens to slots that have passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils.timezone import now

from chroniker.models import Job, JobState, Run
from tests.factories import make_action_job, make_due_job, make_job
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
