"""Hosts that end, fall silent, are retired by hand, and come back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now as utc_now

from chroniker.alerting.review import review_due_incidents
from chroniker.engine import retirement
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.retirement import end_host, retire_host, retire_hosts
from chroniker.engine.scheduler import Scheduler
from chroniker.enums import BlockedReason
from chroniker.exceptions import HostBusy
from chroniker.models import Host, Incident, Job, JobDependency, JobState, Notification
from tests.factories import (
    make_due,
    make_due_job,
    make_incident,
    make_job,
    make_notification,
    make_running,
    make_user,
)

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _runtime_dir(own_runtime_dir: None) -> None:
    pass


@pytest.fixture
def tick_on(settings: Any) -> Any:
    """``tick_on("web1")``: a tick of this host, in this process, that starts no job."""

    def tick(name: str, now: datetime | None = None) -> None:
        settings.CHRONIKER_HOSTNAME = name
        Scheduler(only=frozenset(), now=now).run()

    return tick


def make_silent(name: str, hours: float) -> None:
    """The other hosts look at once, not some minutes later."""
    assert Host.objects.filter(name=name).update(last_tick_at=utc_now() - hours * HOUR)
    Host.objects.request_review()


class TestSilentHost:
    def test_is_retired_by_the_tick_of_another(self, tick_on: Any) -> None:
        tick_on("web3")
        tick_on("web1")
        make_silent("web3", 71)
        tick_on("web1")
        assert Host.objects.active().count() == 2
        make_silent("web3", 73)
        tick_on("web1")
        assert [host.name for host in Host.objects.active()] == ["web1"]
        assert record_heartbeat("web1").idle

    def test_setting_0_never_retires(self, tick_on: Any, settings: Any) -> None:
        settings.CHRONIKER_HOST_RETIRE_HOURS = 0
        tick_on("web3")
        make_silent("web3", 10_000)
        tick_on("web1")
        assert Host.objects.active().count() == 2

    def test_incidents_close_and_are_notified_once(self, tick_on: Any) -> None:
        job = make_job(hostname="*")
        job.subscribers.add(make_user("ann"))
        tick_on("web1")
        tick_on("web3")
        incident = make_incident(job, host="web3", notified_severity="critical")
        make_notification(incident, "opening", sent_at=utc_now(), next_attempt_at=None)
        JobState.objects.filter(job=job, host="web3").update(failing_incident=True)
        make_silent("web3", 73)
        for _ in range(3):
            tick_on("web1")
        incident.refresh_from_db()
        assert incident.resolution == "The host was retired."
        assert Notification.objects.filter(incident=incident, event="closed").count() == 1
        assert not JobState.objects.get(job=job, host="web3").failing_incident

    def test_with_running_runs_is_kept_until_they_are_lost(self, tick_on: Any) -> None:
        job = make_job(hostname="*")
        tick_on("web3")
        make_running(job, host="web3", lease_host="web3")
        make_silent("web3", 73)
        retire_hosts(utc_now())
        assert Host.objects.active().count() == 1

    def test_its_due_jobs_open_no_overdue_incident(self, tick_on: Any) -> None:
        job = make_due_job(hostname="*")
        tick_on("web1")
        tick_on("web3")
        make_silent("web3", 73)
        JobState.objects.filter(host="web3").update(next_run_at=utc_now() - HOUR)
        JobState.objects.filter(host="web1").update(next_run_at=utc_now() + HOUR)
        Host.objects.filter(name="web1").update(up_since=utc_now() - HOUR)
        retire_hosts(utc_now())
        assert JobState.objects.get(job=job, host="web3").due_at is None
        tick_on("web1")
        assert not Incident.objects.exists()

    def test_its_state_does_not_block_downstream_jobs(self, tick_on: Any) -> None:
        upstream, downstream = make_job(hostname="*"), make_due_job()
        tick_on("web1")
        tick_on("web3")
        JobDependency.objects.create(downstream=downstream, upstream=upstream)
        JobState.objects.filter(host="web1").update(last_status="succeeded")
        JobState.objects.filter(host="web3").update(last_status="failed")
        assert not JobState.objects.filter(job=downstream).unblocked(utc_now()).exists()
        retire_host("web3", utc_now())
        assert JobState.objects.filter(job=downstream).unblocked(utc_now()).exists()


class TestEndInOrder:
    def test_is_retired_at_once(self, tick_on: Any) -> None:
        tick_on("pod-1")
        tick_on("pod-2")
        end_host("pod-1", utc_now())
        assert [host.name for host in Host.objects.active()] == ["pod-2"]

    def test_last_host_is_retired_by_the_next_one(self, tick_on: Any) -> None:
        tick_on("pod-1")
        end_host("pod-1", utc_now())
        assert Host.objects.active().count() == 1
        tick_on("pod-2")
        assert [host.name for host in Host.objects.active()] == ["pod-2"]

    def test_host_with_pinned_jobs_is_kept(self, tick_on: Any) -> None:
        make_job(hostname="web1")
        tick_on("web1")
        tick_on("web2")
        end_host("web1", utc_now())
        tick_on("web2")
        assert Host.objects.active().count() == 2
        assert record_heartbeat("web2").idle

    def test_host_that_owns_a_run_is_kept(self, tick_on: Any) -> None:
        tick_on("web1")
        tick_on("web2")
        make_running(make_job(), lease_host="web1")
        end_host("web1", utc_now())
        assert Host.objects.active().count() == 2

    def test_tick_after_the_end_cancels_it(self, tick_on: Any) -> None:
        tick_on("web1")
        end_host("web1", utc_now())
        tick_on("web1")
        tick_on("web2")
        assert Host.objects.active().count() == 2


class TestReturn:
    def test_continues_with_slots_and_counters(self, tick_on: Any) -> None:
        job = make_job(hostname="*", schedule="@every 1h")
        tick_on("web1")
        tick_on("web3")
        state = JobState.objects.get(job=job, host="web3")
        JobState.objects.filter(pk=state.pk).update(runs_total=7)
        retire_host("web3", utc_now())
        later = make_job(hostname="*")
        tick_on("web1")
        assert not JobState.objects.filter(job=later, host="web3").exists()
        tick_on("web3")
        assert Host.objects.active().count() == 2
        back = JobState.objects.get(pk=state.pk)
        assert (back.runs_total, back.next_slot_at, back.host_retired) == (
            7, state.next_slot_at, False,
        )  # fmt: skip
        assert JobState.objects.filter(job=later, host="web3").exists()

    def test_follows_a_definition_that_was_changed_meanwhile(self, tick_on: Any) -> None:
        job = make_job(hostname="*", schedule="@every 1h")
        tick_on("web3")
        retire_host("web3", utc_now())
        Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
        tick_on("web1")
        tick_on("web3")
        due = JobState.objects.get(job=job, host="web3").due_at
        assert due is not None
        assert due > utc_now() + timedelta(minutes=90)

    def test_due_job_runs_with_the_first_tick(self, run_tick: Any, tick_on: Any) -> None:
        job = make_due_job(hostname="*")
        tick_on("testhost")
        name = Host.objects.get().name
        make_due(job)
        retire_host(name, utc_now())
        run_tick()
        assert JobState.objects.get(job=job, host=name).runs_total == 1


class TestPinnedJobs:
    def test_are_blocked_with_a_sentence_until_the_host_is_back(self, tick_on: Any) -> None:
        job = make_job(hostname="web3", schedule="@daily")
        disabled = make_job(hostname="web3", enabled=False)
        tick_on("web3")
        retire_host("web3", utc_now())
        state = JobState.objects.get(job=job)
        assert state.blocked_reason == BlockedReason.HOST
        assert state.blocked_detail.startswith("Host web3 was retired at 20")
        assert not JobState.objects.get(job=disabled).blocked_reason
        tick_on("web3")
        state.refresh_from_db()
        assert (state.blocked_reason, state.blocked_detail) == ("", "")

    def test_planned_later_are_blocked_too(self, tick_on: Any) -> None:
        tick_on("web3")
        retire_host("web3", utc_now())
        job = make_job(hostname="web3")
        tick_on("web1")
        assert JobState.objects.get(job=job).blocked_reason == BlockedReason.HOST
        Job.objects.filter(pk=job.pk).update(hostname="web1")
        tick_on("web1")
        assert not JobState.objects.get(job=job).blocked_reason

    def test_overdue_keep_the_sentence_and_their_incident(self, tick_on: Any) -> None:
        job = make_due_job(hostname="web3")
        tick_on("web3")
        tick_on("web1")
        retire_host("web3", utc_now())
        long_ago = utc_now() - HOUR
        JobState.objects.update(next_run_at=long_ago, next_slot_at=long_ago)
        Host.objects.filter(name="web1").update(up_since=utc_now() - HOUR)
        tick_on("web1")
        assert "was retired at" in JobState.objects.get(job=job).blocked_detail
        tick_on("web1")
        assert Incident.objects.open().get().kind == "overdue"


class TestByHand:
    def test_command(self, tick_on: Any, capsys: pytest.CaptureFixture[str]) -> None:
        make_job(hostname="web3")
        tick_on("web3")
        make_silent("web3", 1)
        call_command("retire_host", "web3")
        out, err = capsys.readouterr()
        assert out == "web3 is retired.\n"
        assert "Enabled jobs are pinned to web3 (1)" in err
        call_command("retire_host", "web3")
        assert "retired already" in capsys.readouterr().out
        with pytest.raises(CommandError, match="no host named 'web9'"):
            call_command("retire_host", "web9")

    def test_warns_about_a_host_that_still_ticks(
        self, tick_on: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tick_on("web3")
        call_command("retire_host", "web3")
        assert "has just ticked" in capsys.readouterr().err

    def test_is_refused_while_it_owns_runs(self, tick_on: Any) -> None:
        tick_on("web3")
        make_running(make_job(), lease_host="web3")
        with pytest.raises(HostBusy, match=r"web3 owns running runs \(1\)"):
            retire_host("web3", utc_now())
        assert Host.objects.active().count() == 1


class TestDeletion:
    def test_of_a_host_ends_its_incidents_and_states(self, tick_on: Any) -> None:
        job = make_job(hostname="*")
        tick_on("web1")
        tick_on("web3")
        incident = make_incident(job, host="web3")
        Host.objects.filter(name="web3").delete()
        assert not JobState.objects.filter(host="web3").exists()
        tick_on("web1")
        incident.refresh_from_db()
        assert incident.resolution == "The host was retired."

    def test_of_hosts_retired_long_ago(self, tick_on: Any) -> None:
        make_job(hostname="*")
        make_job(hostname="named", enabled=False)
        for name in ("named", "old", "young"):
            tick_on(name)
            retire_host(name, utc_now())
        Host.objects.exclude(name="young").update(retired_at=utc_now() - timedelta(days=8))
        tick_on("web1")
        assert {host.name for host in Host.objects.all()} == {"named", "young", "web1"}
        assert set(JobState.objects.exclude(host="").values_list("host", flat=True)) == {
            "named", "young", "web1",
        }  # fmt: skip
        assert record_heartbeat("web1").idle

    def test_of_the_oldest_beyond_a_number(
        self, tick_on: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retirement, "_KEEP_HOSTS", 2)
        for number in range(5):
            tick_on(f"pod-{number}")
            retire_host(f"pod-{number}", utc_now())
        assert [host.name for host in Host.objects.all()] == ["pod-3", "pod-4"]


def test_run_that_ends_after_the_retirement_leaves_no_incident(tick_on: Any) -> None:
    """A host is retired by hand between two writes of a tick of its own."""
    job = make_job(hostname="*")
    tick_on("web1")
    tick_on("web3")
    retire_host("web3", utc_now())
    incident = make_incident(job, host="web3")
    Host.objects.request_review()  # some minutes later
    tick_on("web1")
    incident.refresh_from_db()
    assert not incident.is_open
    review_due_incidents(utc_now())


def test_heartbeat_costs_the_same_with_retired_hosts(tick_on: Any) -> None:
    tick_on("web1")
    with CaptureQueriesContext(connection) as before:
        record_heartbeat("web1")
    for number in range(3):
        tick_on(f"pod-{number}")
        retire_host(f"pod-{number}", utc_now())
    with CaptureQueriesContext(connection) as after:
        record_heartbeat("web1")
    assert len(after) == len(before)
