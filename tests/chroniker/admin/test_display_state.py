"""One state for a job, the worst fact first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.admin.display_state import DisplayState, current_states, describe_job
from chroniker.admin.site_status import load_site_status
from chroniker.models import Host, Job
from tests.factories import make_job, make_job_state, make_running, minutes_from_now

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def described(job: Job) -> DisplayState:
    job = Job.objects.get(pk=job.pk)
    return describe_job(job, current_states(job), utc_now(), load_site_status())


def tick(name: str = "web1", **fields: Any) -> None:
    Host.objects.update_or_create(name=name, defaults={"last_tick_at": utc_now()} | fields)


def test_failing_is_worse_than_scheduled_running_or_blocked() -> None:
    tick()
    job = make_job(schedule="@daily")
    Job.objects.filter(pk=job.pk).update(planned_from=job.definition)
    state = make_job_state(job, next_run_at=minutes_from_now(60), consecutive_failures=3)
    assert described(job) == DisplayState("failing", "failing", "3 consecutive failures")
    type(state).objects.filter(pk=state.pk).update(blocked_reason="capacity")
    assert described(job).detail == "3 consecutive failures; blocked: at capacity"
    state.delete()
    make_running(job, consecutive_failures=1)
    assert described(job) == DisplayState("failing", "failing", "1 failure; running: on web1")


def test_a_disabled_job_is_disabled_whatever_happened() -> None:
    job = make_job(schedule="@daily", enabled=False)
    make_job_state(job, consecutive_failures=3)
    assert described(job).name == "disabled"


def test_due_becomes_late(settings: Any) -> None:
    tick()
    settings.CHRONIKER_OVERDUE_SECONDS = 300
    job = make_job(schedule="@daily")
    state = make_job_state(job, next_run_at=minutes_from_now(-1))
    assert described(job) == DisplayState("due", "due", "")
    type(state).objects.filter(pk=state.pk).update(next_run_at=minutes_from_now(-6))
    assert described(job) == DisplayState("late", "late", "It is due and has not started.")


def test_a_job_of_a_host_that_never_ticked_says_so() -> None:
    """It used to be due for ever without a word."""
    tick("web1")
    job = make_job(schedule="@daily", hostname="wbe1")
    make_job_state(job, next_run_at=minutes_from_now(-1))
    shown = described(job)
    assert shown.name == "blocked"
    assert shown.detail.startswith("Host wbe1 has never ticked.")
    tick("wbe1", last_tick_at=utc_now() - timedelta(hours=1))
    assert described(job).detail == "Host wbe1 does not tick."
    tick("wbe1", paused=True)
    assert described(job).detail == "Host wbe1 is paused."
    tick("wbe1", paused=False)
    assert described(job) == DisplayState("due", "due", "")


def test_without_ticks_nothing_is_promised() -> None:
    job = make_job(schedule="@daily")
    state = make_job_state(job, run_requested_at=utc_now())
    assert described(job).detail == "No host ticks."
    tick()
    assert described(job).detail == "A run is requested. It starts with the next tick."
    type(state).objects.filter(pk=state.pk).update(run_requested_at=None)
    tick(paused=True)
    assert described(job).detail == "Every host that ticks is paused."
