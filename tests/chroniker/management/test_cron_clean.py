"""The ``cron_clean`` command."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from chroniker.models import JobState, OutputChunk, Run
from tests.factories import make_action_job
from tests.support.types import RunManage, RunTick

pytestmark = pytest.mark.django_db(transaction=True)


class TestCleaning:
    def test_deletes_old_runs_with_output_and_keeps_counters(
        self, manage: RunManage, run_tick: RunTick
    ) -> None:
        job = make_action_job("say hello")
        run_tick()
        Run.objects.create(job=job, scheduled_for=now(), status="running")
        before = JobState.objects.values().get(job=job)
        Run.objects.filter(status="succeeded").update(ended_at=now() - timedelta(days=3))
        assert "Deleted 0 runs" in manage("cron_clean", "days", "4").stdout
        assert "Deleted 1 runs" in manage("cron_clean", "days", "2").stdout
        assert [run.status for run in Run.objects.all()] == ["running"]
        assert not OutputChunk.objects.exists()
        after = JobState.objects.values().get(job=job)
        assert after.pop("last_run_id") is None
        before.pop("last_run_id")
        assert after == before

    @pytest.mark.parametrize("words", [["days"], ["days", "-1"], ["years", "1"], ["days", "x"]])
    def test_rejects_invalid_arguments(self, manage: RunManage, words: list[str]) -> None:
        assert manage("cron_clean", *words).returncode == 2
