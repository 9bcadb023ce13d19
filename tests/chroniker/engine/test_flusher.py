"""Progress is stored while a job runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import JobState, Run
from tests.factories import make_action_job
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
class TestProgress:
    def test_progress_is_visible_while_the_job_is_in_a_transaction(
        self, start_tick: StartTick, settings: Any, tmp_path: Path, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        reported, seen = tmp_path / "reported", tmp_path / "seen"
        job = make_action_job(f"progress_in_transaction {reported} {seen}")
        tick = start_tick()
        wait_until(reported.exists, timeout=20)
        began = time.monotonic()
        wait_until(
            lambda: JobState.objects.filter(
                job=job, parts_total=77, parts_done=13, progress_at__isnull=False
            ).exists()
        )
        assert time.monotonic() - began < 4  # two, plus some on a busy machine
        assert Run.objects.get(job=job).status == "running"
        seen.touch()
        tick.wait(20)
        assert Run.objects.get(job=job).status == "succeeded"

    def test_last_progress_is_stored(
        self, run_tick: RunTick, settings: Any, start_method: str
    ) -> None:
        settings.CHRONIKER_START_METHOD = start_method
        job = make_action_job("report_progress_to 100000")
        run_tick()
        run = Run.objects.get(job=job)
        assert (run.status, run.parts_done, run.parts_total) == ("succeeded", 100000, 100000)
