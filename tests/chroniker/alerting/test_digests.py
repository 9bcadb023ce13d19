"""The incidents of a day in one email."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group

from chroniker.alerting.digests import next_time, write_digests
from chroniker.models import Digest, Incident, Notification
from tests.factories import NOON, make_incident, make_job, make_subscribed_job
from tests.support.mail_server import MailServer, html_of, text_of
from tests.support.timeline import START, Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


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


# --- without mails ---

DAY = timedelta(days=1)


def write(user: Any, now: datetime = NOON, **fields: Any) -> Notification | None:
    """Write the digest of the day before ``now``, and return its notification."""
    row = {"next_at": now, "covered_until": now - DAY, "timezone": "UTC", "hour": 12}
    Digest.objects.create(user=user, **row | fields)
    write_digests(now)
    return Notification.objects.filter(event="digest").first()


def entries(notification: Notification | None) -> list[str]:
    assert notification is not None
    return [entry["summary"] for entry in notification.facts["incidents"]]


def test_digest_lists_what_was_opened_or_resolved_in_its_period_or_is_open() -> None:
    job, second = make_subscribed_job(), timedelta(seconds=1)
    for summary, opened, resolved in [
        ("opened at its start", NOON - DAY, NOON - DAY),
        ("opened after its start", NOON - DAY + second, NOON - DAY + second),
        ("resolved in it", NOON - 3 * DAY, NOON - second),
        ("resolved before", NOON - 3 * DAY, NOON - 2 * DAY),
        ("long open", NOON - 9 * DAY, None),
        ("opened now", NOON, None),
        ("opened later", NOON + second, None),
    ]:
        host = "" if resolved else summary
        make_incident(job, host=host, summary=summary, opened_at=opened, resolved_at=resolved)
    make_incident(make_job(), summary="of another job")
    found = write(job.subscribers.get())
    assert set(entries(found)) == {
        "opened after its start", "resolved in it", "long open", "opened now",
    }  # fmt: skip
    assert found is not None and found.facts["since"] == (NOON - DAY).isoformat()
    assert (found.facts["until"], found.facts["more"]) == (NOON.isoformat(), False)
    assert (found.channel, found.recipient, found.job) == ("mail", "ann@example.com", None)


def test_each_incident_is_listed_once_the_latest_first() -> None:
    job = make_subscribed_job()
    user, group = job.subscribers.get(), Group.objects.create(name="on call")
    group.user_set.add(user)
    job.subscriber_groups.add(group)
    for hours in (3, 1, 2):
        make_incident(
            job, host=str(hours), summary=str(hours), opened_at=NOON - timedelta(hours=hours)
        )
    assert entries(write(user)) == ["1", "2", "3"]


def test_entry_has_the_facts_of_its_incident() -> None:
    job = make_subscribed_job(name="till")
    incident = make_incident(
        job, host="web1", severity="warning", summary="80 %", occurrences=3, muted=True,
        opened_at=NOON - DAY / 2, resolved_at=NOON - DAY / 4,
    )  # fmt: skip
    found = write(job.subscribers.get())
    assert found is not None
    assert found.facts["incidents"] == [
        {
            "pk": incident.pk, "job": "till", "host": "web1", "kind": "failing",
            "severity": "warning", "summary": "80 %", "occurrences": 3, "muted": True,
            "opened_at": (NOON - DAY / 2).isoformat(), "resolved_at": (NOON - DAY / 4).isoformat(),
        }
    ]  # fmt: skip


@pytest.mark.parametrize(("count", "listed", "more"), [(200, 200, False), (201, 200, True)])
def test_digest_lists_at_most_two_hundred_incidents(count: int, listed: int, more: bool) -> None:
    job = make_subscribed_job()
    moments = {"opened_at": NOON - DAY / 2, "last_seen_at": NOON, "resolved_at": NOON - DAY / 4}
    Incident.objects.bulk_create(
        Incident(job=job, kind="failing", severity="info", **moments) for _ in range(count)
    )
    found = write(job.subscribers.get())
    assert found is not None
    assert (len(found.facts["incidents"]), found.facts["more"]) == (listed, more)


def test_digest_is_written_when_it_is_due_and_covers_what_follows_the_last() -> None:
    job = make_subscribed_job()
    make_incident(job, opened_at=NOON - DAY)
    assert write(job.subscribers.get(), next_at=NOON + timedelta(seconds=1)) is None
    digest = Digest.objects.get()
    assert digest.covered_until == NOON - DAY
    write_digests(NOON + timedelta(seconds=1))
    digest.refresh_from_db()
    assert digest.covered_until == NOON + timedelta(seconds=1)
    assert digest.next_at == NOON + DAY
    for days in (1, 2):
        write_digests(NOON + days * DAY)
    assert Notification.objects.filter(event="digest").count() == 3, "one for each day"


@pytest.mark.parametrize(
    ("user", "digest"),
    [({"is_active": False}, {}), ({"email": "no address"}, {}), ({}, {"covered_until": None})],
)
def test_digest_without_recipient_or_start_only_advances(user: Any, digest: Any) -> None:
    job = make_subscribed_job()
    job.subscribers.update(**user)
    make_incident(job)
    assert write(job.subscribers.get(), **digest) is None
    assert Digest.objects.get().next_at == NOON + DAY


def test_hour_that_begins_now_is_tomorrow() -> None:
    assert next_time(12, "UTC", NOON) == NOON + DAY
    assert next_time(12, "UTC", NOON - timedelta(microseconds=1)) == NOON
    assert next_time(12, "UTC", NOON + timedelta(minutes=5, seconds=3)) == NOON + DAY
