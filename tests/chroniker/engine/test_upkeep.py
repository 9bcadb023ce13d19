"""What a tick does beside running jobs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils.timezone import now as utc_now

from chroniker.conf import runtime_dir
from chroniker.engine.heartbeat import PendingWork, record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.tick_clock import TickClock
from chroniker.engine.upkeep import review_incidents, settle_host
from chroniker.models import Digest, Host, Incident, JobState, Maintenance, Run
from chroniker.processes.locks import OwnerLock
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_maintenance,
    make_running,
    make_user,
)

pytestmark = pytest.mark.django_db(transaction=True)

NOTHING = PendingWork(
    new_host=False, returned=False, paused=False, clock=NOON, read_at=0.0, unplanned=False,
    due=False, owned=False, stale=False, overdue=False, incident_review=False, digest=False,
    outbox=False, hosts_changed=False, host_incident=False, windows_to_repeat=False,
)  # fmt: skip


def work(**flags: bool) -> PendingWork:
    return replace(NOTHING, **flags)  # type: ignore[arg-type]


class TestSettleHost:
    def test_new_host_is_planned_and_noted(self) -> None:
        Host.objects.create(name="web1")
        job = make_job(schedule="@every 1h", created_at=NOON, hostname="*")
        plan_changed_jobs(NOON)
        JobState.objects.all().delete()
        assert settle_host(work(), "web1", TickClock(NOON)) == []
        assert not JobState.objects.exists()
        assert settle_host(work(new_host=True), "web1", TickClock(NOON)) == []
        state = JobState.objects.get(job=job, host="web1")
        assert state.next_slot_at is not None and state.next_slot_at > NOON
        assert Host.objects.get().first_tick_at is not None
        assert not record_heartbeat("web1").new_host

    @pytest.mark.parametrize("flag", ["owned", "stale"])
    def test_lost_runs_are_ended_if_there_may_be_some(
        self, flag: str, own_runtime_dir: None
    ) -> None:
        dead, stale = make_job(), make_job()
        owner = OwnerLock(runtime_dir())
        owner.release()
        make_running(dead, lease_host="web1", lease_owner=owner.name)
        make_running(stale, lease_host="web2", lease_expires_at=utc_now() - timedelta(hours=1))
        assert settle_host(work(), "web1", TickClock()) == []
        ended = settle_host(work(**{flag: True}), "web1", TickClock())
        expected = [dead, stale] if flag == "stale" else [dead]
        assert [finished.job for finished in ended] == expected
        assert {run.job for run in Run.objects.filter(status="lost")} == set(expected)

    def test_silence_of_the_host_ends_and_windows_are_repeated(self) -> None:
        Host.objects.create(name="web1")
        silent = make_incident(job=None, kind="host", host="web1")
        Incident.objects.filter(pk=silent.pk).update(job=None)
        make_maintenance(NOON, 60, recurrence="@daily", timezone="UTC")
        settle_host(work(), "web1", TickClock(NOON))
        assert Incident.objects.open().exists() and Maintenance.objects.count() == 1
        flags = {"host_incident": True, "windows_to_repeat": True}
        settle_host(work(**flags), "web1", TickClock(NOON))
        assert Incident.objects.get().ended_by == "recovered"
        assert Maintenance.objects.count() == 2


class TestReviewIncidents:
    def test_nothing_is_reviewed_without_need(self) -> None:
        incident = make_incident()
        Incident.objects.update(next_review_at=NOON)
        review_incidents(work(), NOON)
        incident.refresh_from_db()
        assert incident.next_review_at == NOON

    def test_incidents_are_reviewed(self) -> None:
        make_incident()
        Incident.objects.update(next_review_at=NOON)
        review_incidents(work(incident_review=True), NOON)
        assert Incident.objects.get().next_review_at != NOON

    def test_overdue_jobs_get_an_incident_and_a_reason(self, settings: Any) -> None:
        settings.CHRONIKER_OVERDUE_SECONDS = 600
        job = make_job(schedule="@every 1h", created_at=NOON, hostname="web9")
        plan_changed_jobs(NOON)
        late = NOON + timedelta(hours=2)
        review_incidents(work(), late)
        assert not Incident.objects.exists()
        review_incidents(work(overdue=True), late)
        incident = Incident.objects.get()
        assert (incident.kind, incident.job) == ("overdue", job)
        state = JobState.objects.get()
        assert (state.blocked_reason, state.blocked_detail) == (
            "host", "Host web9 has never ticked.",
        )  # fmt: skip

    def test_digests_are_written(self) -> None:
        digest = Digest.objects.create(user=make_user("ann"), next_at=NOON)
        review_incidents(work(digest=True), NOON)
        digest.refresh_from_db()
        assert digest.next_at is not None and digest.next_at > NOON
