"""The cost of an idle tick, and a tick that gets SIGTERM."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chroniker.models import Job, Run
from tests.factories import make_action_job, make_job
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


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

    def test_idle_tick_prints_nothing(self, run_tick: RunTick) -> None:
        make_job(schedule="@every 1h")
        run_tick()
        assert run_tick().output == ""


def test_sigterm_waits_for_the_jobs(start_tick: StartTick, tmp_path: Path) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 1.5 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    tick.wait(20)
    assert Run.objects.get(job=job).status == "succeeded"


def test_sigterm_interrupts_the_jobs_after_the_grace_time(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 1
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}")
    tick = start_tick()
    wait_until(started.exists)
    tick.kill(signal.SIGTERM)
    assert tick.wait(20).seconds < 15
    run = Run.objects.get(job=job)
    assert run.status == "interrupted"
    assert "asked to shut down" in run.error
