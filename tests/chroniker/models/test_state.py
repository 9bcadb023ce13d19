"""Concurrent changes of a job and its state."""

from __future__ import annotations

from pathlib import Path

import pytest

from chroniker.models import Job, JobState
from tests.factories import make_action_job
from tests.support.processes import wait_until
from tests.support.types import StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_edit_during_a_run_keeps_the_counters(start_tick: StartTick, tmp_path: Path) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 1.5 {started}")
    form = Job.objects.get(pk=job.pk)  # like a form that was opened before the run ended
    tick = start_tick()
    wait_until(started.exists)
    form.refresh_from_db()
    form.description = "edited while it ran"
    form.schedule = "@every 2h"
    tick_end = tick.wait(20)
    form.save()
    assert tick_end.exit_code == 0
    state = JobState.objects.get(job=job)
    assert state.runs_total == 1 and state.last_status == "succeeded"
    job.refresh_from_db()
    assert job.description == "edited while it ran" and job.needs_planning
