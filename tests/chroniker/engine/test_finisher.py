"""Recording the end of runs when rows or connections have gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from chroniker.models import JobState, Run
from tests.factories import make_action_job
from tests.support.connections import kill_other_connections
from tests.support.processes import wait_until
from tests.support.types import StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_end_of_run_is_recorded_after_a_lost_connection(
    start_tick: StartTick, tmp_path: Path
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("an SQLite file has no connection to kill")
    started = tmp_path / "started"
    job = make_action_job(f"sleep 2 {started}")
    tick = start_tick()
    wait_until(started.exists)
    kill_other_connections()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=job).status == "succeeded"
    assert JobState.objects.get(job=job).runs_total == 1


def test_deleted_run_does_not_block_others(
    start_tick: StartTick, tmp_path: Path, settings: Any
) -> None:
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 60
    started = tmp_path / "started"
    job, other = make_action_job(f"sleep 1.2 {started}"), make_action_job("sleep 1.5")
    tick = start_tick()
    wait_until(started.exists)
    Run.objects.filter(job=job).delete()
    assert tick.wait(20).exit_code == 0
    assert Run.objects.get(job=other).status == "succeeded"
    state = JobState.objects.get(job=job)
    assert state.lease_token is None and state.runs_total == 1
