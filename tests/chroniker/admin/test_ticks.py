"""Requests made in the admin are carried out by a real tick."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.test import Client

from chroniker.enums import RunStatus, Trigger
from chroniker.models import Host, Job, JobState, Run
from tests.factories import make_job
from tests.support.admin import JOB_FORM, admin_url
from tests.support.processes import wait_until
from tests.support.types import RunTick, SignIn, StartTick

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def root(transactional_db: None, sign_in: SignIn) -> Client:
    return sign_in(superuser=True)


@pytest.mark.parametrize("enabled", [True, False])
def test_run_now_runs_with_the_next_tick(root: Client, run_tick: RunTick, enabled: bool) -> None:
    job = make_job(command="act", args="say hello", enabled=enabled, schedule="0 0 1 1 *")
    root.post(admin_url("job_run", job))
    assert run_tick().exit_code == 0
    run = Run.objects.get()
    assert (run.status, run.trigger) == (RunStatus.SUCCEEDED, Trigger.MANUAL)
    page = root.get(admin_url("run_change", run)).content.decode()
    assert '<ol class="chroniker-lines" start="1"><li>hello</li></ol>' in page
    assert "not stored" not in page
    assert JobState.objects.get().run_requested_at is None


def test_stop_ends_run_and_keeps_concurrent_edit(root: Client, start_tick: StartTick) -> None:
    job = make_job(command="act", args="sleep 60", kill_grace_seconds=1)
    root.post(admin_url("job_run", job))
    tick = start_tick()
    wait_until(lambda: Run.objects.running().exists())
    form: dict[str, Any] = {**JOB_FORM, "name": job.name, "command": "act", "args": "sleep 60"}
    form |= {"description": "edited while it ran", "kill_grace_seconds": "1"}
    assert root.post(admin_url("job_change", job), form).status_code == 302
    assert "Stop" in root.get(admin_url("job_page", job)).content.decode()
    root.post(admin_url("job_stop", job))
    assert tick.wait(30).exit_code == 0
    state = JobState.objects.get()
    assert (state.last_status, state.failures_stopped) == (RunStatus.STOPPED, 1)
    assert Job.objects.get().description == "edited while it ran"
    assert "stopped" in root.get(admin_url("job_changelist")).content.decode()


def test_forms_are_saved_while_ticks_write_the_same_rows(root: Client) -> None:
    job = make_job()
    host = Host.objects.create(name="web1")
    JobState.objects.create(job=job)
    stop = threading.Event()

    def tick() -> int:
        rounds = 0
        try:
            while not stop.is_set():
                Job.objects.filter(pk=job.pk).update(planned_from=str(rounds))
                JobState.objects.filter(job=job).update(runs_total=F("runs_total") + 1)
                Host.objects.filter(pk=host.pk).update(claims=F("claims") + 1)
                rounds += 1
                time.sleep(0.001)
        finally:
            connections.close_all()
        return rounds

    with ThreadPoolExecutor(1) as pool:
        ticking = pool.submit(tick)
        try:
            for number in range(20):
                form = {**JOB_FORM, "name": job.name, "description": str(number)}
                assert root.post(admin_url("job_change", job), form).status_code == 302
                assert (
                    root.post(admin_url("host_change", host), {"paused": "on"}).status_code == 302
                )
                assert root.post(admin_url("job_run", job)).status_code == 302
            doomed = make_job()
            assert root.post(admin_url("job_delete", doomed), {"post": "yes"}).status_code == 302
        finally:
            stop.set()
        rounds = ticking.result(30)
    job, host = Job.objects.get(), Host.objects.get()
    assert (job.description, host.paused) == ("19", True)
    assert job.planned_from == str(rounds - 1)
    assert JobState.objects.get().runs_total == host.claims == rounds
