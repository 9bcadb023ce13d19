"""When jobs can be scheduled, and when not."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from chroniker.enums import BlockedReason
from chroniker.health.readiness import (
    Check,
    Readiness,
    ReadinessProbe,
    check_readiness,
)
from chroniker.models import Host
from tests.factories import make_job, make_job_state, minutes_from_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def ticking_host() -> None:
    Host.objects.create(name="web1", last_tick_at=minutes_from_now(-1))


def test_is_ready_where_a_host_ticks_and_all_jobs_can_be_scheduled(ticking_host: None) -> None:
    make_job_state(make_job(), blocked_reason=BlockedReason.DEPENDENCY)
    found = check_readiness()
    assert found.status == "ok"
    names = ("database", "migrations", "hosts", "jobs")
    assert found.as_dict() == {"status": "ok", "checks": {name: {"ok": True} for name in names}}


@pytest.mark.parametrize("minutes", [None, -6, "retired"])
def test_is_degraded_where_no_host_ticks(minutes: Any) -> None:
    if minutes == "retired":
        Host.objects.create(
            name="web1", last_tick_at=minutes_from_now(0), retired_at=minutes_from_now(0)
        )
    elif minutes:
        Host.objects.create(name="web1", last_tick_at=minutes_from_now(minutes))
    found = check_readiness()
    assert found.status == "degraded"
    assert [check.name for check in found.checks if not check.ok] == ["hosts"]


@pytest.mark.parametrize(
    "reason", [BlockedReason.SCHEDULE, BlockedReason.COMMAND, BlockedReason.HOST]
)
def test_is_degraded_where_an_enabled_job_cannot_be_scheduled(
    ticking_host: None, reason: BlockedReason
) -> None:
    make_job_state(make_job(enabled=False), blocked_reason=reason)
    assert check_readiness().ok
    make_job_state(make_job(name="secret name"), blocked_reason=reason, blocked_detail="secret")
    found = check_readiness()
    assert found.status == "degraded"
    assert "cannot be scheduled: 1." in str(found.as_dict())
    assert "secret" not in str(found.as_dict())


def test_is_unavailable_with_a_migration_that_is_not_applied(ticking_host: None) -> None:
    rows = MigrationRecorder(connection).migration_qs.filter(app="chroniker")
    assert rows.delete()[0] == 1
    found = check_readiness()
    assert found.status == "unavailable"
    assert found.as_dict()["checks"] == {
        "database": {"ok": True},
        "migrations": {"ok": False, "detail": "Migrations that are not applied: 1."},
    }


class TestProbe:
    def test_asks_the_database_once_for_many_requests(self) -> None:
        calls: list[int] = []

        def check() -> Readiness:
            calls.append(1)
            return Readiness((Check("database", True),))

        probe = ReadinessProbe(check)
        assert [probe.read().ok for _ in range(5)] == [True] * 5
        assert len(calls) == 1

    def test_answers_while_the_database_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("chroniker.health.readiness.LIMIT_SECONDS", 0.05)
        release = threading.Event()
        calls: list[int] = []

        def check() -> Readiness:
            calls.append(1)
            release.wait(10)
            return Readiness((Check("database", True),))

        probe = ReadinessProbe(check)
        try:
            assert [probe.read().status for _ in range(3)] == ["unavailable"] * 3
            assert len(calls) == 1  # no second thread waits for it
        finally:
            release.set()

    def test_failed_check_is_not_ready(self) -> None:
        def check() -> Readiness:
            raise RuntimeError("password=hunter2")

        found = ReadinessProbe(check).read()
        assert not found.ok
        assert "hunter2" not in str(found.as_dict())
