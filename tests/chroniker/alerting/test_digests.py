"""The incidents of a day in one mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group

from chroniker.alerting.digests import next_time, write_digests
from chroniker.models import Digest, Notification
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer, html_of, text_of
from tests.support.timeline import START, Timeline

pytestmark = pytest.mark.django_db(transaction=True)


def test_digest_covers_a_day_and_goes_only_to_its_subscriber(mail_server: MailServer) -> None:
    job, group_job, foreign = (
        make_subscribed_job("ann", name="import <sales>"),
        make_subscribed_job("bob", name="backup"),
        make_subscribed_job("cleo", name="secret plans"),
    )
    ann = job.subscribers.get()
    group = Group.objects.create(name="on call")
    ann.groups.add(group)
    group_job.subscriber_groups.add(group)
    Digest.objects.create(user=ann, hour=8, timezone="UTC", digest_only=True)
    timeline = Timeline()
    write_digests(timeline.now)  # new: it gets its first due time
    assert Digest.objects.get().next_at == START.replace(hour=8) + timedelta(days=1)
    timeline.run(job, "FFS")
    timeline.run(group_job, "F")
    timeline.run(foreign, "F")
    assert "ann@example.com" not in {str(mail["To"]) for mail in mail_server.mails}
    mail_server.mails.clear()
    timeline.now = START.replace(hour=8) + timedelta(days=1)
    write_digests(timeline.now)
    write_digests(timeline.now)
    timeline.send()
    (mail,) = mail_server.mails
    assert mail["To"] == "ann@example.com"
    assert mail["Subject"] == "[Chroniker] 2 incidents since 2026-03-01 12:00 UTC"
    for body in (text_of(mail), html_of(mail)):
        assert "backup" in body and "secret plans" not in body
    assert "import <sales>" in text_of(mail) and "<sales>" not in html_of(mail)


def test_day_without_incidents_sends_no_digest(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    Digest.objects.create(user=job.subscribers.get(), timezone="UTC")
    timeline = Timeline()
    for _ in range(3):
        write_digests(timeline.now)
        timeline.advance(days=1)
    assert not Notification.objects.exists()


def test_inactive_user_gets_no_digest(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    user = job.subscribers.get()
    Digest.objects.create(user=user, timezone="UTC")
    user.is_active = False
    user.save()
    timeline = Timeline()
    write_digests(timeline.now)
    timeline.run(job, "F")
    write_digests(timeline.advance(days=1).now)
    assert not Notification.objects.filter(event="digest").exists()


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("hour", "zone", "after", "expected"),
    [
        (8, "UTC", "2026-03-01T07:59", "2026-03-01T08:00"),
        (8, "UTC", "2026-03-01T08:00", "2026-03-02T08:00"),
        (8, "America/New_York", "2026-03-07T13:00", "2026-03-08T12:00"),
        (2, "Europe/Berlin", "2026-03-28T01:30", "2026-03-29T01:00"),
        (0, "Asia/Tokyo", "2026-03-01T12:00", "2026-03-01T15:00"),
        (8, "Mars/Olympus", "2026-03-01T07:59", "2026-03-01T08:00"),
    ],
)
def test_next_digest_follows_local_time(hour: int, zone: str, after: str, expected: str) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert next_time(hour, zone, moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_tick_creates_and_sends_the_digest(run_tick: object, mail_server: MailServer) -> None:
    job = make_subscribed_job()
    now = datetime.now(UTC)
    timeline = Timeline()
    timeline.now = now - timedelta(hours=1)
    timeline.run_once(job, "F")
    Notification.objects.all().delete()
    Digest.objects.create(
        user=job.subscribers.get(), next_at=now, covered_until=now - timedelta(days=1)
    )
    run_tick()  # type: ignore[operator]
    assert mail_server.event_names() == ["digest"]
