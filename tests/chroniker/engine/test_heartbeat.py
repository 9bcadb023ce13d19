"""Ticks record their host, and see in one query what there is to do."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils.timezone import now as utc_now

from chroniker.db.clock import boottime
from chroniker.engine.heartbeat import (
    _FLAGS,
    PendingWork,
    record_first_tick,
    record_heartbeat,
    record_tick_duration,
)
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.tick_clock import TickClock
from chroniker.models import Digest, Host, Incident, JobState, Notification
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_notification,
    make_running,
    make_user,
)
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db(transaction=True)


def test_tick_records_its_host(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    assert run_tick().output == ""
    host = Host.objects.get()
    assert host.name == "web1" and host.last_tick_at and host.first_tick_at
    assert host.tick_seconds is not None and host.tick_seconds < 5


FLAGS = ("new_host", "returned", "hosts_changed", *_FLAGS)


def make_idle_host() -> None:
    """A host that has been ticking for a long time and has nothing to do."""
    record_heartbeat("web1")
    record_first_tick("web1")
    Host.objects.update(up_since=utc_now() - timedelta(days=1))


def flags_of(work: PendingWork) -> set[str]:
    return {name for name in FLAGS if getattr(work, name)}


def pending(pinned: Any = None) -> set[str]:
    """What a tick of the host finds."""
    work = record_heartbeat("web1", pinned)
    assert work.idle == (not flags_of(work))
    return flags_of(work)


@pytest.mark.parametrize("flag", FLAGS)
def test_host_with_one_kind_of_work_is_not_idle(flag: str) -> None:
    nothing: dict[str, Any] = dict.fromkeys(FLAGS, False)
    nothing |= {"paused": False, "clock": NOON, "read_at": 0.0}
    assert PendingWork(**nothing).idle
    assert not PendingWork(**nothing | {flag: True}).idle


class TestPendingWork:
    def test_new_host_is_planned_once(self) -> None:
        assert pending() == {"new_host"}
        assert pending() == {"new_host"}, "its jobs are not planned yet"
        record_first_tick("web1")
        first = Host.objects.get().first_tick_at
        record_first_tick("web1")
        assert Host.objects.get().first_tick_at == first
        assert pending() == set()

    def test_changed_definition(self) -> None:
        make_idle_host()
        make_job()
        assert pending() == {"unplanned"}

    def test_due_job_that_this_host_may_run(self) -> None:
        make_idle_host()
        make_job(hostname="web2")
        mine = make_job(hostname="web1")
        plan_changed_jobs(utc_now())
        JobState.objects.exclude(job=mine).update(next_run_at=utc_now())
        assert pending() == set()
        JobState.objects.filter(job=mine).update(next_run_at=utc_now())
        assert pending() == {"due"}

    def test_pinned_time_replaces_the_clock(self) -> None:
        make_idle_host()
        make_job(schedule="@every 1h", created_at=NOON)
        plan_changed_jobs(NOON)
        assert pending(NOON + timedelta(minutes=59)) == set()
        assert pending(NOON + timedelta(minutes=60)) == {"due"}
        work = record_heartbeat("web1", NOON)
        assert work.clock == NOON

    def test_job_that_has_been_due_for_a_long_time(self, settings: Any) -> None:
        settings.CHRONIKER_OVERDUE_SECONDS = 600
        make_idle_host()
        make_job()
        plan_changed_jobs(utc_now())
        JobState.objects.update(next_run_at=utc_now() - timedelta(seconds=590))
        assert pending() == {"due"}
        JobState.objects.update(next_run_at=utc_now() - timedelta(seconds=610))
        assert pending() == {"due", "overdue"}
        assert pending(utc_now() - timedelta(seconds=30)) == {"due"}
        assert pending(utc_now() + timedelta(seconds=30)) == {"due", "overdue"}
        Host.objects.update(up_since=utc_now() - timedelta(seconds=590))
        assert pending() == {"due"}, "a host that has just started may be about to start it"

    def test_owned_and_stale_leases(self) -> None:
        make_idle_host()
        state = make_running(make_job(), lease_host="web1")
        plan_changed_jobs(utc_now())
        assert pending() == {"owned"}
        JobState.objects.filter(pk=state.pk).update(
            lease_expires_at=utc_now() - timedelta(seconds=1)
        )
        assert pending() == {"owned", "stale"}

    def test_alerts_that_are_due(self) -> None:
        make_idle_host()
        past, future = utc_now() - timedelta(minutes=1), utc_now() + timedelta(minutes=1)
        incident = make_incident()
        notification = make_notification(incident, "1")
        digest = Digest.objects.create(user=make_user("ann"), next_at=future)
        plan_changed_jobs(utc_now())
        Incident.objects.update(next_review_at=future)
        assert pending() == set()
        Incident.objects.update(next_review_at=past)
        assert pending() == {"incident_review"}
        Incident.objects.update(next_review_at=future)
        Digest.objects.filter(pk=digest.pk).update(next_at=past)
        assert pending() == {"digest"}
        Digest.objects.filter(pk=digest.pk).update(next_at=future)
        Notification.objects.filter(pk=notification.pk).update(next_attempt_at=past)
        assert pending() == {"outbox"}

    def test_hosts_are_reviewed_some_minutes_apart(self, settings: Any) -> None:
        make_idle_host()
        make_idle_host()
        settings.CHRONIKER_HOST_RETIRE_HOURS = 24
        assert Host.objects.create(name="web3", last_tick_at=utc_now() - timedelta(hours=25))
        assert pending() == set(), "reviewed by the tick before"
        Host.objects.filter(name="web1").update(hosts_reviewed_at=utc_now() - timedelta(minutes=11))
        assert pending() == pending() == {"hosts_changed"}, "until it is done"
        assert Host.objects.filter(name="web3").update(retired_at=utc_now())
        assert pending() == set()

    def test_heartbeat_reports_a_paused_host(self) -> None:
        make_idle_host()
        assert not record_heartbeat("web1").paused
        Host.objects.update(paused=True)
        assert record_heartbeat("web1").paused

    def test_clock_is_that_of_the_database_at_the_moment_of_reading(self) -> None:
        before = boottime()
        work = record_heartbeat("web1")
        assert before <= work.read_at <= boottime()
        assert abs(work.clock - utc_now()) < timedelta(seconds=5)

    def test_slow_database_makes_no_tick_early(self) -> None:
        def ask_slowly(execute: Any, sql: str, *rest: Any) -> Any:
            if sql.startswith("SELECT"):
                time.sleep(0.2)
            return execute(sql, *rest)

        record_heartbeat("web1")
        with connection.execute_wrapper(ask_slowly):
            work = record_heartbeat("web1")
        clock = TickClock()
        clock.set(work.clock, work.read_at)
        now = clock.now()
        later = record_heartbeat("web1").clock
        assert timedelta(milliseconds=-2) <= later - now < timedelta(seconds=0.15)


class TestHostRow:
    def test_host_that_was_silent_for_a_long_time_counts_as_just_started(
        self, settings: Any
    ) -> None:
        settings.CHRONIKER_OVERDUE_SECONDS = 600
        make_idle_host()
        since = Host.objects.get().up_since
        for seconds, kept in ((1190, True), (1210, False)):
            Host.objects.update(up_since=since, last_tick_at=utc_now() - timedelta(seconds=seconds))
            record_heartbeat("web1")
            assert (Host.objects.get().up_since == since) == kept
        settings.CHRONIKER_OVERDUE_SECONDS = 3600
        Host.objects.update(up_since=since, last_tick_at=utc_now() - timedelta(seconds=3590))
        record_heartbeat("web1")
        assert Host.objects.get().up_since == since

    def test_each_host_writes_its_own_row(self) -> None:
        for name in ("web1", "web2"):
            record_heartbeat(name)
        record_first_tick("web1")
        record_tick_duration("web1", 1.5)
        one, two = Host.objects.order_by("name")
        assert one.first_tick_at and not two.first_tick_at
        assert (one.tick_seconds, two.tick_seconds) == (1.5, None)
