"""How a run is started: start method, environment, lock files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from chroniker.models import JobState, Run
from tests.factories import make_action_job, make_due, make_due_job
from tests.support.runs import stored_output
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestExclusion:
    def test_job_with_a_held_lock_file_is_not_started(
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
    def test_unusable_lock_file_fails_the_run_and_not_the_tick(
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


def test_spawned_job_keeps_pythonpath_for_its_programs(
    run_tick: RunTick, settings: Any, monkeypatch: Any
) -> None:
    settings.CHRONIKER_START_METHOD = "spawn"
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    job = make_action_job("print_env PYTHONPATH")
    run_tick()
    assert stored_output(Run.objects.get(job=job), "stdout") == f"{os.getcwd()}\n"
