"""Delivery of notifications: retries, claims, dropped notifications."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

import pytest

from chroniker.alerting.attempts import UNFINISHED
from chroniker.alerting.delivery import deliver
from chroniker.alerting.notifiers import ChannelDown, Notifier
from chroniker.models import Incident, Notification
from tests.factories import NOON, make_incident, make_notification, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline, timeline_of_failed_job

pytestmark = pytest.mark.django_db(transaction=True)


def test_retries_wait_longer_each_time(mail_server: MailServer) -> None:
    timeline = timeline_of_failed_job()
    mail_server.refuse.add("*")
    waits = []
    for _ in range(10):
        timeline.send()
        again = Notification.objects.get().next_attempt_at
        assert again is not None
        waits.append((again - timeline.now).total_seconds())
        timeline.now = again
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    mail_server.refuse.clear()
    timeline.send()
    assert mail_server.event_names() == ["opened"]


def test_delivery_is_dropped_after_days_and_logged(mail_server: MailServer) -> None:
    timeline = timeline_of_failed_job()
    mail_server.refuse.add("*")
    timeline.advance(days=8).send()
    notification = Notification.objects.get()
    assert notification.dropped_at is not None and notification.next_attempt_at is None
    assert "451" in notification.last_error
    mail_server.refuse.clear()
    timeline.advance(hours=1).send()
    assert mail_server.mails == []


def test_one_rejected_recipient_does_not_delay_the_others(mail_server: MailServer) -> None:
    mail_server.refuse.add("bob@example.com")
    timeline = timeline_of_failed_job("ann", "bob", "cleo")
    timeline.send()
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == [
        "ann@example.com", "cleo@example.com",
    ]  # fmt: skip
    mail_server.refuse.clear()
    timeline.advance(minutes=1).send()
    assert [str(mail["To"]) for mail in mail_server.mails][2:] == ["bob@example.com"]


def test_only_a_crash_after_data_can_duplicate_a_mail(mail_server: MailServer) -> None:
    """The email was accepted but the reply was lost: the same email is sent again."""
    timeline = timeline_of_failed_job()
    mail_server.die = 1
    timeline.send()
    assert len(mail_server.mails) == 1
    assert Notification.objects.get().sent_at is None
    timeline.advance(minutes=1).send()
    first, second = mail_server.mails
    assert first["Message-ID"] == second["Message-ID"]
    timeline.advance(hours=1).send()
    assert len(mail_server.mails) == 2


def test_claim_of_dead_sender_expires(mail_server: MailServer) -> None:
    timeline = timeline_of_failed_job()
    keys = list(Notification.objects.values_list("pk", flat=True))
    until = timeline.now + timedelta(seconds=80)
    assert Notification.objects.claim(keys, "dead", timeline.now, until) == 1
    assert Notification.objects.claim(keys, "other", timeline.now, until) == 0
    timeline.advance(seconds=79).send()
    assert mail_server.mails == []
    timeline.advance(seconds=2).send()
    assert mail_server.event_names() == ["opened"]


def test_mail_that_crashes_the_server_does_not_block_others(
    mail_server: MailServer, settings: Any
) -> None:
    timeline = timeline_of_failed_job("ann", "bob")
    mail_server.die = 1
    timeline.send()
    poison = str(mail_server.mails[0]["To"])
    mail_server.refuse.add(poison)
    timeline.advance(minutes=5).send()
    assert {str(mail["To"]) for mail in mail_server.mails} == {"ann@example.com", "bob@example.com"}


def test_resolutions_that_wait_do_not_delay_openings(
    mail_server: MailServer,
) -> None:
    """Otherwise each would be selected again every few seconds, before a retry."""
    job = make_subscribed_job(*[f"user{number}" for number in range(30)])
    timeline = Timeline()
    timeline.run_once(job, "F")
    Notification.objects.update(attempts=3, next_attempt_at=timeline.now + timedelta(minutes=10))
    timeline.advance(minutes=1).run_once(job, "S")
    assert timeline.send() == 0
    assert not Notification.objects.due(timeline.now + timedelta(minutes=8)).exists()
    assert timeline.advance(minutes=10).send() == 30
    timeline.advance(minutes=1).send()
    assert mail_server.event_names() == ["opened"] * 30 + ["resolved"] * 30


def test_notification_of_a_job_that_is_deleted_meanwhile_is_sent(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.JobDeletingNotifier"]
    timeline = timeline_of_failed_job()
    timeline.advance(seconds=1).run_once(make_subscribed_job("bob"), "F")
    assert timeline.send() >= 3
    assert mail_server.event_names()[:2] == ["opened", "opened"]
    assert "failed: ValueError: boom" in mail_server.subjects()[1]


def test_delivery_of_dead_sender_is_finally_dropped(mail_server: MailServer) -> None:
    timeline = timeline_of_failed_job()
    Notification.objects.update(attempts=3, last_error=UNFINISHED, attempt_unfinished=True)
    timeline.advance(days=6).send()
    assert mail_server.event_names() == ["opened"]
    timeline = timeline_of_failed_job("bob")
    Notification.objects.pending().update(
        attempts=3, last_error=UNFINISHED, attempt_unfinished=True
    )
    timeline.advance(days=8).send()
    assert mail_server.event_names() == ["opened"]
    assert Notification.objects.get(recipient="bob@example.com").dropped_at is not None


# --- channels of a site ---


class Recorder(Notifier):
    """Records what it is given, and fails as the recipient's name says."""

    sent: ClassVar[list[str]] = []

    def send(self, notification: Notification) -> None:
        self.sent.append(notification.key)
        if notification.key.startswith("down"):
            raise ChannelDown("the pager is down")
        if notification.key.startswith("fails"):
            raise ValueError("not this one")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of what was sent through :class:`Recorder`, in order."""
    sent: list[str] = []
    monkeypatch.setattr(Recorder, "sent", sent)
    return sent


def make_due(key: str, **fields: Any) -> Notification:
    """A notification that has been due since a minute before noon."""
    moment = NOON - timedelta(minutes=1)
    row = {"channel": f"{__name__}.Recorder", "created_at": moment, "next_attempt_at": moment}
    return make_notification(make_incident(), key, **row | fields)


def send(seconds: float = 5) -> int:
    return deliver(lambda: NOON, seconds)


def test_any_number_of_due_notifications_is_sent(sent: list[str]) -> None:
    for number in range(45):
        make_due(f"{number:02}")
    make_due("later", next_attempt_at=NOON + timedelta(seconds=1))
    assert send() == 45
    assert sent == [f"{number:02}" for number in range(45)]
    assert Notification.objects.filter(sent_at=NOON).count() == 45


def test_notifications_that_never_failed_are_sent_first(sent: list[str]) -> None:
    make_due("failed twice", attempts=2)
    make_due("failed once", attempts=1)
    make_due("new")
    make_due("old", created_at=NOON - timedelta(days=1))
    assert send() == 4
    assert sent == ["old", "new", "failed once", "failed twice"]


def test_failure_stops_no_other_notification(sent: list[str]) -> None:
    make_due("fails")
    make_due("works")
    assert send() == 1
    failed = Notification.objects.get(key="fails")
    assert (failed.attempts, failed.last_error) == (1, "ValueError: not this one")
    assert failed.next_attempt_at == NOON + timedelta(seconds=30)


def test_channel_that_is_down_is_left_alone_until_the_next_tick(sent: list[str]) -> None:
    make_due("down")
    for number in range(25):
        make_due(f"waits {number}")
    make_due("of another channel", channel="tests.support.notifiers.ProgrammingErrorNotifier")
    assert send() == 0
    assert sent == ["down"]
    waiting = Notification.objects.filter(key__startswith="waits")
    assert set(waiting.values_list("attempts", "claim_token")) == {(0, "")}
    released, untouched = NOON + timedelta(seconds=15), NOON - timedelta(minutes=1)
    assert set(waiting.values_list("next_attempt_at", flat=True)) == {released, untouched}
    assert Notification.objects.get(key="of another channel").attempts == 1


def test_irrelevant_notification_is_dropped_and_not_sent(sent: list[str]) -> None:
    reminder = make_due("reminder", event="reminder")
    Incident.objects.update(acknowledged_at=NOON)
    assert send() == 0
    reminder.refresh_from_db()
    assert (sent, reminder.dropped_at, reminder.attempts) == ([], NOON, 0)


def test_old_notification_that_killed_its_sender_is_dropped_and_not_sent(sent: list[str]) -> None:
    old = make_due("old", attempt_unfinished=True, created_at=NOON - timedelta(days=8))
    assert send() == 0
    old.refresh_from_db()
    assert (sent, old.dropped_at) == ([], NOON)


def test_without_time_nothing_is_sent_or_claimed(sent: list[str]) -> None:
    make_due("due")
    before = Notification.objects.values().get()
    assert send(seconds=0) == 0
    assert (sent, Notification.objects.values().get()) == ([], before)


def test_claim_outlasts_the_time_of_its_sender_by_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims = []

    def look(channel: Recorder, notification: Notification) -> None:
        claims.append(Notification.objects.get().next_attempt_at)

    monkeypatch.setattr(Recorder, "send", look)
    make_due("due")
    assert send(seconds=20) == 1
    assert claims == [NOON + timedelta(seconds=80)]
