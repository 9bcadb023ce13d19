"""The incidents of a day in one mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Group

from chroniker.alerting.digests import next_time, write_digests
from chroniker.models import Digest, Notification
from tests.incidents.history import START, Story, watched_job
from tests.incidents.post import PostOffice, html_of, text_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_digest_tells_of_a_day_and_only_to_its_reader(office: PostOffice) -> None:
    job, group_job, foreign = (
        watched_job("ann", name="import <sales>"),
        watched_job("bob", name="backup"),
        watched_job("cleo", name="secret plans"),
    )
    ann = job.subscribers.get()
    group = Group.objects.create(name="on call")
    ann.groups.add(group)
    group_job.subscriber_groups.add(group)
    Digest.objects.create(user=ann, hour=8, timezone="UTC", only=True)
    story = Story()
    write_digests(story.now)  # new: it gets its time
    assert Digest.objects.get().next_at == START.replace(hour=8) + timedelta(days=1)
    story.run(job, "FFS")
    story.run(group_job, "F")
    story.run(foreign, "F")
    assert "ann@example.com" not in {str(mail["To"]) for mail in office.mails}
    office.mails.clear()
    story.now = START.replace(hour=8) + timedelta(days=1)
    write_digests(story.now)
    write_digests(story.now)
    story.send()
    (mail,) = office.mails
    assert mail["To"] == "ann@example.com"
    assert mail["Subject"] == "[Chroniker] 2 incidents since 2026-03-01 12:00 UTC"
    for body in (text_of(mail), html_of(mail)):
        assert "backup" in body and "secret plans" not in body
    assert "import <sales>" in text_of(mail) and "<sales>" not in html_of(mail)


def test_a_quiet_day_makes_no_mail(office: PostOffice) -> None:
    job = watched_job()
    Digest.objects.create(user=job.subscribers.get(), timezone="UTC")
    story = Story()
    for _ in range(3):
        write_digests(story.now)
        story.later(days=1)
    assert not Notification.objects.exists()


def test_whoever_is_gone_gets_nothing(office: PostOffice) -> None:
    job = watched_job()
    user = job.subscribers.get()
    Digest.objects.create(user=user, timezone="UTC")
    user.is_active = False
    user.save()
    story = Story()
    write_digests(story.now)
    story.run(job, "F")
    write_digests(story.later(days=1).now)
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
def test_the_next_time_is_by_the_clock_on_the_wall(
    hour: int, zone: str, after: str, expected: str
) -> None:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert next_time(hour, zone, moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_tick_writes_and_sends_it(run_tick: object, office: PostOffice) -> None:
    job = watched_job()
    now = datetime.now(UTC)
    story = Story()
    story.now = now - timedelta(hours=1)
    story.one(job, "F")
    Notification.objects.all().delete()
    Digest.objects.create(
        user=job.subscribers.get(), next_at=now, covered_until=now - timedelta(days=1)
    )
    run_tick()  # type: ignore[operator]
    assert office.words() == ["digest"]
