"""Capacity, priority and paused hosts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.models import Host, Run
from tests.factories import make_action_job, make_due_job
from tests.support.processes import wait_until
from tests.support.types import RunTick, StartTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestHosts:
    def test_paused_host_starts_nothing(self, run_tick: RunTick) -> None:
        run_tick()
        Host.objects.update(paused=True)
        make_due_job()
        run_tick()
        assert not Run.objects.exists()

    def test_higher_priority_runs_first_at_capacity(self, run_tick: RunTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 1
        for name, priority in (("low", -1), ("high", 5), ("middle", 0)):
            make_due_job(name=name, priority=priority)
        run_tick()
        assert list(Run.objects.order_by("id").values_list("job__name", flat=True)) == [
            "high", "middle", "low",
        ]  # fmt: skip

    def test_running_jobs_never_exceed_capacity(self, start_tick: StartTick, settings: Any) -> None:
        settings.CHRONIKER_MAX_PARALLEL = 3
        for _ in range(7):
            make_action_job("sleep 0.4")
        ticks = [start_tick() for _ in range(2)]
        most = 0

        def all_ran() -> bool:
            nonlocal most
            most = max(most, Run.objects.running().count())
            return Run.objects.filter(status="succeeded").count() == 7

        wait_until(all_ran, timeout=20)
        for tick in ticks:
            tick.wait(20)
        assert most == 3


def test_late_start_is_recorded_as_late(run_tick: RunTick, monkeypatch: Any) -> None:
    monkeypatch.setattr("chroniker.engine.claimer._CLAIM_WINDOW_SECONDS", 0.5)
    for n in range(2):
        make_action_job("sleep 1.5", name=f"job {n}", priority=-n)
    run_tick(max_parallel=1)
    first, second = Run.objects.order_by("id")
    assert second.started_at - first.started_at > timedelta(seconds=1)  # type: ignore[operator]
