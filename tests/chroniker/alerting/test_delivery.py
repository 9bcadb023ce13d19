"""Delivery of notifications: retries, claims, abandoned ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.alerting.attempts import UNFINISHED
from chroniker.models import Notification
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline, timeline_of_failed_job

pytestmark = pytest.mark.django_db(transaction=True)


# --- whole ticks ---


# --- without processes ---


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


def test_delivery_is_abandoned_after_days_and_logged(mail_server: MailServer) -> None:
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
    """The mail was accepted but the reply was lost: the same mail is sent again."""
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


def test_notification_of_a_deleted_job_is_not_sent(mail_server: MailServer, settings: Any) -> None:
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.JobDeletingNotifier"]
    timeline = timeline_of_failed_job()
    timeline.advance(seconds=1).run_once(make_subscribed_job("bob"), "F")
    assert timeline.send() == 2
    assert [str(mail["To"]) for mail in mail_server.mails] == ["ann@example.com"]


def test_delivery_of_dead_sender_is_finally_abandoned(mail_server: MailServer) -> None:
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
