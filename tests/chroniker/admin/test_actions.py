"""What the buttons and actions change, and what they record in the admin's log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, LogEntry

from chroniker.admin import actions
from chroniker.admin.actions import (
    acknowledge_incidents,
    mute_jobs,
    request_runs,
    request_stop_of_run,
    request_stops,
    retry_notifications,
    set_enabled,
    unmute_jobs,
)
from chroniker.models import Host, Incident, Job, JobState, Maintenance, Notification
from tests.factories import (
    NOON,
    make_incident,
    make_job,
    make_job_state,
    make_maintenance,
    make_notification,
    make_running,
    make_user,
)

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def user() -> int:
    """The primary key of the person who acts."""
    key: int = make_user("ann").pk
    return key


def log_of(user: int) -> list[tuple[str, str]]:
    """What was recorded: primary keys and messages, in order."""
    entries = LogEntry.objects.filter(user=user, action_flag=CHANGE).order_by("pk")
    return [(str(entry.object_id), entry.change_message) for entry in entries]


def windows() -> list[Maintenance]:
    return list(Maintenance.objects.order_by("pk"))


class TestRequestRuns:
    def test_each_placement_counts_and_each_job_is_logged(self, user: int) -> None:
        Host.objects.bulk_create([Host(name="web1"), Host(name="web2")])
        once, everywhere = make_job(), make_job(hostname="*")
        make_job_state(once, host="web1")  # from a time when every host ran it
        make_job_state(everywhere)  # from a time when one host ran it
        assert request_runs([once, everywhere], user_id=user) == 3
        asked = JobState.objects.filter(run_requested_by="manual").values_list("job", "host")
        assert sorted(asked) == [(once.pk, ""), (everywhere.pk, "web1"), (everywhere.pk, "web2")]
        assert log_of(user) == [(str(once.pk), "Run now."), (str(everywhere.pk), "Run now.")]

    def test_second_request_changes_nothing(self, user: int) -> None:
        job = make_job()
        assert request_runs([job], user_id=user) == 1
        first = JobState.objects.get().run_requested_at
        assert request_runs([job], user_id=user) == 0
        assert JobState.objects.get().run_requested_at == first

    def test_request_without_jobs_does_nothing(self, user: int) -> None:
        assert request_runs([], user_id=user) == 0
        assert log_of(user) == []

    def test_batches_add_up(self, user: int, monkeypatch: Any) -> None:
        monkeypatch.setattr(actions, "BATCH", 2)
        jobs = [make_job() for _ in range(5)]
        assert request_runs(jobs, user_id=user) == 5
        assert len(log_of(user)) == 5
        for job in jobs:
            make_running(job)
        assert request_stops(jobs, user_id=user) == 5
        assert set_enabled(jobs, enabled=False, now=NOON, user_id=user) == 5
        assert len(log_of(user)) == 15


class TestRequestStops:
    def test_only_running_jobs_are_stopped_and_logged(self, user: int) -> None:
        running, idle, other = make_job(), make_job(), make_job()
        make_running(running)
        make_running(other)
        make_job_state(idle)
        assert request_stops([running, idle], user_id=user) == 1
        stopped = JobState.objects.filter(stop_requested_at__isnull=False)
        assert [state.job for state in stopped] == [running]
        assert log_of(user) == [(str(running.pk), "Stop.")]
        assert request_stops([running], user_id=user) == 0, "requested before"

    def test_one_run_is_stopped_once(self, user: int) -> None:
        state = make_running(make_job())
        other = make_running(make_job())
        run = state.current_run
        assert run is not None
        assert request_stop_of_run(run, user_id=user) == 1
        assert log_of(user) == [(str(run.pk), "Stop."), (str(run.job.pk), "Stop.")]
        assert request_stop_of_run(run, user_id=user) == 0
        assert len(log_of(user)) == 2, "nothing changed, nothing logged"
        other.refresh_from_db()
        assert other.stop_requested_at is None


class TestSetEnabled:
    def test_only_jobs_that_change_are_counted_and_logged(self, user: int) -> None:
        on, off = make_job(), make_job(enabled=False)
        assert set_enabled([on, off], enabled=False, now=NOON, user_id=user) == 1
        assert not Job.objects.filter(enabled=True).exists()
        assert log_of(user) == [(str(on.pk), "Disabled.")]
        assert Job.objects.get(pk=on.pk).updated_at == NOON
        assert Job.objects.get(pk=off.pk).updated_at != NOON
        assert set_enabled([off], enabled=True, now=NOON, user_id=user) == 1
        assert log_of(user)[1:] == [(str(off.pk), "Enabled.")]
        assert Job.objects.get(enabled=True) == off


class TestMuteJobs:
    def test_window_mutes_the_jobs_from_now_on(self, user: int) -> None:
        jobs, other = [make_job(), make_job()], make_job()
        assert mute_jobs(jobs, hours=3, now=NOON, user_id=user) == 2
        (window,) = windows()
        assert (window.starts_at, window.ends_at) == (NOON, NOON + 3 * HOUR)
        assert (window.reason, window.created_by_id, window.pause) == ("Muted for 3 h", user, False)
        assert list(Job.objects.muted(NOON).order_by("pk")) == jobs
        assert other not in Job.objects.muted(NOON)
        assert log_of(user) == [(str(job.pk), "Muted for 3 h.") for job in jobs]

    def test_no_jobs_create_no_window(self, user: int) -> None:
        assert mute_jobs([], hours=1, now=NOON, user_id=user) == 0
        assert windows() == [], "a window without jobs would mute all"


class TestUnmuteJobs:
    def test_window_that_has_begun_ends_now(self, user: int) -> None:
        job = make_job()
        make_maintenance(NOON - HOUR, 120, job)
        assert unmute_jobs([job], now=NOON, user_id=user) == 1
        (window,) = windows()
        assert (window.starts_at, window.ends_at) == (NOON - HOUR, NOON)
        assert list(window.jobs.all()) == [job], "the history is kept"
        assert not Job.objects.muted(NOON).exists()
        assert log_of(user) == [(str(job.pk), "Unmuted.")]

    def test_window_that_begins_this_moment_is_deleted(self, user: int) -> None:
        job = make_job()
        make_maintenance(NOON, 60, job)
        assert unmute_jobs([job], now=NOON, user_id=user) == 1
        assert windows() == [], "a window must end after it starts"
        assert not Job.objects.muted(NOON).exists()
        assert log_of(user) == [(str(job.pk), "Unmuted.")]

    def test_other_jobs_of_the_window_stay_muted(self, user: int) -> None:
        one, other = make_job(), make_job()
        made = make_maintenance(NOON - HOUR, 120, one, other)
        assert unmute_jobs([one], now=NOON, user_id=user) == 1
        assert list(Job.objects.muted(NOON)) == [other]
        assert windows()[0].ends_at == made.ends_at
        assert log_of(user) == [(str(one.pk), "Unmuted.")]

    def test_job_in_two_windows_counts_once_and_leaves_both(self, user: int) -> None:
        job, other = make_job(), make_job()
        make_maintenance(NOON - HOUR, 120, job)
        make_maintenance(NOON - HOUR, 180, job, other)
        assert unmute_jobs([job], now=NOON, user_id=user) == 1
        assert list(Job.objects.muted(NOON)) == [other]
        assert len(log_of(user)) == 1

    @pytest.mark.parametrize(
        "fields",
        [{"pause": True}, {"starts_at": NOON + HOUR}, {"ends_at": NOON}],
        ids=["pauses jobs", "has not begun", "has ended"],
    )
    def test_window_that_does_not_only_mute_now_is_not_changed(
        self, user: int, fields: dict[str, Any]
    ) -> None:
        job = make_job()
        made = make_maintenance(NOON - HOUR, 180, job)
        Maintenance.objects.filter(pk=made.pk).update(**fields)
        made.refresh_from_db()
        assert unmute_jobs([job], now=NOON, user_id=user) == 0
        (window,) = windows()
        assert (window.starts_at, window.ends_at) == (made.starts_at, made.ends_at)
        assert list(window.jobs.all()) == [job]
        assert log_of(user) == []

    def test_window_for_all_jobs_is_not_changed(self, user: int) -> None:
        job = make_job()
        made = make_maintenance(NOON - HOUR, 120)
        assert unmute_jobs([job], now=NOON, user_id=user) == 0
        assert windows()[0].ends_at == made.ends_at

    def test_incidents_of_the_jobs_are_reviewed_now(self, user: int) -> None:
        job, other = make_job(), make_job()
        make_maintenance(NOON - HOUR, 120, job, other)
        for each in (job, other):
            make_incident(each, muted=True)
        Incident.objects.update(next_review_at=NOON + HOUR)
        unmute_jobs([job], now=NOON, user_id=user)
        assert Incident.objects.get(job=job).next_review_at == NOON
        assert Incident.objects.get(job=other).next_review_at == NOON + HOUR


class TestAcknowledgeIncidents:
    def test_open_incidents_are_acknowledged_once(self, user: int) -> None:
        mine, other = make_incident(), make_incident()
        closed = make_incident(make_job())
        Incident.objects.filter(pk=closed.pk).update(resolved_at=NOON)
        chosen = Incident.objects.exclude(pk=other.pk)
        assert acknowledge_incidents(chosen, now=NOON, user_id=user) == 1
        mine.refresh_from_db()
        assert (mine.acknowledged_at, mine.acknowledged_by_id) == (NOON, user)
        for row in (other, closed):
            row.refresh_from_db()
            assert row.acknowledged_at is None
        assert log_of(user) == [(str(mine.pk), "Acknowledged.")]
        assert acknowledge_incidents(chosen.all(), now=NOON + HOUR, user_id=user) == 0
        assert len(log_of(user)) == 1

    def test_the_first_to_acknowledge_is_recorded(self, user: int) -> None:
        make_incident()
        seen = Incident.objects.all()
        assert len(seen) == 1, "both people see it open"
        assert acknowledge_incidents(seen, now=NOON, user_id=user) == 1
        other = make_user("bob").pk
        assert acknowledge_incidents(seen, now=NOON + HOUR, user_id=other) == 0
        incident = Incident.objects.get()
        assert (incident.acknowledged_at, incident.acknowledged_by_id) == (NOON, user)
        assert log_of(other) == []


class TestRetryNotifications:
    def test_waiting_and_dropped_ones_are_due_now(self, user: int) -> None:
        incident = make_incident()
        waiting = make_notification(incident, "1", next_attempt_at=NOON + HOUR)
        dropped = make_notification(incident, "2", next_attempt_at=None, dropped_at=NOON - HOUR)
        sent = make_notification(incident, "3", next_attempt_at=None, sent_at=NOON - HOUR)
        assert retry_notifications(Notification.objects.all(), now=NOON, user_id=user) == 2
        for row in (waiting, dropped):
            row.refresh_from_db()
            assert (row.next_attempt_at, row.dropped_at) == (NOON, None)
        sent.refresh_from_db()
        assert (sent.next_attempt_at, sent.sent_at) == (None, NOON - HOUR)
        assert sorted(log_of(user)) == sorted(
            (str(row.pk), "Retry now.") for row in (waiting, dropped)
        )

    @pytest.mark.parametrize(("expires", "changed"), [(1, 0), (0, 1), (-1, 1)])
    def test_one_that_is_being_sent_is_left_to_its_sender_until_its_claim_expires(
        self, user: int, expires: int, changed: int
    ) -> None:
        row = make_notification(
            make_incident(), "1", claim_token="sender", next_attempt_at=NOON + expires * HOUR
        )
        assert retry_notifications(Notification.objects.all(), now=NOON, user_id=user) == changed
        row.refresh_from_db()
        assert row.claim_token == ("" if changed else "sender")

    def test_nothing_to_retry_is_not_logged(self, user: int) -> None:
        make_notification(make_incident(), "1", next_attempt_at=None, sent_at=NOON)
        assert retry_notifications(Notification.objects.all(), now=NOON, user_id=user) == 0
        assert log_of(user) == []
