"""Ticks of one host that share a PID file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chroniker.models import Run
from tests.factories import make_action_job
from tests.support.types import RunInFork, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_ticks_with_a_pid_file_wait_for_each_other(
    start_tick: StartTick, settings: Any, tmp_path: Path, run_in_fork: RunInFork
) -> None:
    settings.CHRONIKER_USE_PID = True
    settings.CHRONIKER_PID_FILE = str(tmp_path / "cron.pid")
    make_action_job("sleep 1")
    make_action_job("sleep 1")

    def tick() -> float:
        import time

        from chroniker.engine.entrypoints import run_single_tick

        begun = time.monotonic()
        run_single_tick()
        return time.monotonic() - begun

    ticks = [run_in_fork(tick) for _ in range(4)]
    seconds = sorted(one.wait(30).value for one in ticks)
    assert Run.objects.filter(status="succeeded").count() == 2
    assert seconds[0] < 0.9, "one waits; further ones leave it to that one"
    assert seconds[-1] > 0.9
