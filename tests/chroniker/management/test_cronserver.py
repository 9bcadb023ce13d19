"""The ``cronserver`` command."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from django.db import connection
from django.utils.timezone import now

from chroniker.models import Host, JobState, Run
from tests.factories import make_action_job, make_job
from tests.support.connections import kill_other_connections
from tests.support.processes import wait_until
from tests.support.types import RunManage, StartManage

pytestmark = pytest.mark.django_db(transaction=True)


class TestCronserver:
    def test_ticks_until_sigterm(self, start_manage: StartManage) -> None:
        job = make_job(schedule="@every 1s")
        server = start_manage("cronserver", "0.3")
        wait_until(lambda: Run.objects.filter(job=job, status="succeeded").count() >= 3, timeout=20)
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        state = JobState.objects.get(job=job)
        assert state.lease_token is None
        slots = list(
            Run.objects.filter(job=job, status="succeeded").values_list("scheduled_for", flat=True)
        )
        assert len(slots) == len(set(slots))

    def test_ended_in_order_retires_its_host(self, start_manage: StartManage) -> None:
        Host.objects.create(name="another", last_tick_at=now())
        server = start_manage("cronserver", "0.3")
        wait_until(lambda: Host.objects.exclude(name="another").exists(), timeout=20)
        assert Host.objects.active().count() == 2
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert [host.name for host in Host.objects.active()] == ["another"]

    def test_starts_due_jobs_while_a_long_job_runs(
        self, start_manage: StartManage, tmp_path: Path
    ) -> None:
        started = tmp_path / "started"
        long_one = make_action_job(f"sleep 60 {started}")
        server = start_manage("cronserver", "0.3")
        wait_until(started.exists, timeout=20)
        quick = make_job(schedule="@every 1s")
        wait_until(lambda: Run.objects.filter(job=quick, status="succeeded").exists(), timeout=30)
        JobState.objects.filter(job=long_one).request_stop(now())
        wait_until(lambda: Run.objects.filter(job=long_one, status="stopped").exists(), timeout=30)
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0

    def test_survives_a_database_outage(self, start_manage: StartManage) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("an SQLite file has no connection to kill")
        job = make_job(schedule="@every 1s")
        server = start_manage("cronserver", "0.3")
        wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=20)
        kill_other_connections()
        ran = Run.objects.filter(job=job, status="succeeded").count()
        wait_until(
            lambda: Run.objects.filter(job=job, status="succeeded").count() > ran + 1, timeout=20
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait(15) == 0
        assert not Run.objects.filter(status="lost").exists()

    @pytest.mark.parametrize("seconds", ["0", "x", "-1", "nan"])
    def test_rejects_invalid_interval(self, manage: RunManage, seconds: str) -> None:
        ended = manage("cronserver", "--", seconds)
        assert ended.returncode == 2
        assert "seconds" in ended.stderr
