"""Storms: many notifications to one recipient become few messages, and none is lost."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from chroniker.alerting.bundles import form_bundles
from chroniker.alerting.holding import HOLD, STORM
from chroniker.alerting.incidents import open_or_update, resolve
from chroniker.alerting.notified import summarize
from chroniker.db.transactions import run_transaction
from chroniker.engine.retirement import retire_host
from chroniker.enums import IncidentKind
from chroniker.models import Host, Incident, Job, Notification
from tests.factories import make_subscribed_job, make_user
from tests.support.mail_server import MailServer, html_of, text_of
from tests.support.timeline import Timeline

pytestmark = pytest.mark.django_db(transaction=True)


def many_jobs(number: int, *subscribers: str, **fields: Any) -> list[Job]:
    jobs = Job.objects.bulk_create(
        Job(name=f"job {index:03}", command="noop", **fields) for index in range(number)
    )
    users = [make_user(name) for name in subscribers]
    through = Job.subscribers.through
    through.objects.bulk_create(
        through(job_id=job.pk, user_id=user.pk) for job in jobs for user in users
    )
    return jobs


def send_for(timeline: Timeline, minutes: int) -> None:
    """Ticks once a minute."""
    for _ in range(minutes):
        timeline.evaluate_incidents()
        while timeline.send():
            pass
        timeline.advance(minutes=1)


def fail_all(timeline: Timeline, jobs: list[Job], letter: str = "F", seconds: float = 20) -> None:
    """The jobs end one after the other within so many seconds; the sender runs beside them."""
    for index, job in enumerate(jobs):
        run_transaction(partial(observe, timeline, job, letter))
        if index % 50 == 0:
            timeline.send()
        timeline.advance(seconds=seconds / len(jobs))


def observe(timeline: Timeline, job: Job, letter: str) -> None:
    """What the end of a run writes about incidents."""
    if letter == "S":
        resolve(job, "", IncidentKind.FAILING, "A run succeeded.", timeline.now)
    else:
        error = "ValueError: boom"
        open_or_update(job, "", IncidentKind.FAILING, job.alert_severity, error, timeline.now)


def named(mails: list[Any]) -> set[str]:
    """The jobs of this test that mails name. A snapshot lists processes of other tests as well."""
    found = {name for mail in mails for name in re.findall(r"job \d{3}", text_of(mail))}
    return found & set(Job.objects.values_list("name", flat=True))


@pytest.mark.slow
def test_300_failures_at_once_are_at_most_three_messages_and_name_every_job(
    mail_server: MailServer,
) -> None:
    jobs = many_jobs(300, "ann", "bob")
    timeline = Timeline()
    fail_all(timeline, jobs)
    send_for(timeline, 12)
    for address in ("ann@example.com", "bob@example.com"):
        mails = mail_server.to(address)
        assert len(mails) <= 3
        assert named(mails) == {job.name for job in jobs}
    # Their ends as well: no end is lost, and there are no 300 messages.
    mail_server.reset()
    fail_all(timeline, jobs, "S")
    send_for(timeline, 12)
    assert len(mail_server.to("ann@example.com")) <= 3
    assert named(mail_server.to("ann@example.com")) == {job.name for job in jobs}
    assert set(mail_server.event_names()) <= {"resolved", "bundle"}


def test_slow_storm_is_sent_one_by_one_until_there_are_too_many(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 3
    jobs, timeline = many_jobs(20, "ann"), Timeline()
    for job in jobs:
        fail_all(timeline, [job], seconds=12)
        timeline.send()
    send_for(timeline, 8)
    assert len(mail_server.mails) <= 5
    assert named(mail_server.mails) == {job.name for job in jobs}


def test_first_is_sent_at_once_and_few_are_sent_each(mail_server: MailServer) -> None:
    jobs, timeline = many_jobs(4, "ann"), Timeline()
    fail_all(timeline, jobs)
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    timeline.advance(seconds=30)
    timeline.send()
    assert mail_server.event_names() == ["opened"] * 4
    timeline.advance(minutes=1)
    fail_all(timeline, jobs[:1], "S")
    timeline.send()
    assert mail_server.event_names()[-1] == "resolved"


def test_bundle_lists_the_most_severe_first_and_links_each(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 2
    settings.CHRONIKER_SITE_URL = "https://shop.example.com"
    jobs, timeline = many_jobs(4, "ann"), Timeline()
    jobs[3].alert_severity = "critical"
    fail_all(timeline, jobs)
    timeline.advance(minutes=1).send()
    first, bundle = mail_server.mails
    assert (first["X-Chroniker-Event"], bundle["X-Chroniker-Event"]) == ("opened", "bundle")
    assert "3 new incidents: job 003, job 001, job 002" in str(bundle["Subject"])
    assert bundle["X-Chroniker-Severity"] == "critical"
    lines = [line for line in text_of(bundle).splitlines() if "failed" in line]
    assert lines[0].startswith("Critical: job 003 failed: ValueError: boom (since 2026-03-01 12:00")
    assert html_of(bundle).count("https://shop.example.com/admin/chroniker/incident/") >= 3
    # It is known who was notified of each, and the end is in the thread of the bundle.
    incident = Incident.objects.get(job=jobs[2])
    assert summarize(incident) == "1 recipient notified."
    fail_all(timeline, jobs[2:3], "S")
    timeline.send()
    assert mail_server.mails[-1]["In-Reply-To"] == bundle["Message-ID"]


def test_critical_incidents_do_not_wait_for_the_next_bundle(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 2
    jobs, timeline = many_jobs(6, "ann"), Timeline()
    jobs[5].alert_severity = "critical"
    fail_all(timeline, jobs[:4])
    timeline.advance(minutes=1).send()
    fail_all(timeline, jobs[4:5])
    timeline.advance(minutes=1).send()
    assert len(mail_server.mails) == 2
    fail_all(timeline, jobs[5:])
    timeline.advance(seconds=HOLD.total_seconds()).send()
    assert "job 005" in text_of(mail_server.mails[2])
    timeline.advance(seconds=STORM.total_seconds()).send()
    assert named(mail_server.mails) == {job.name for job in jobs}


def test_mail_server_that_is_down_loses_nothing(mail_server: MailServer, settings: Any) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 2
    jobs, timeline = many_jobs(5, "ann"), Timeline()
    mail_server.refuse.add("*")
    fail_all(timeline, jobs)
    timeline.advance(minutes=1).send()
    assert mail_server.mails == []
    # Their ends wait for the bundle that announces them.
    fail_all(timeline, jobs, "S")
    mail_server.refuse.clear()
    send_for(timeline, 15)
    assert named(mail_server.mails) == {job.name for job in jobs}
    events = mail_server.event_names()
    assert events.index("bundle") < len(events) - 1
    assert not Notification.objects.filter(sent_at=None).exclude(dropped_at=None).exists()
    assert not Notification.objects.undelivered().exists()


def test_two_processes_form_one_bundle(settings: Any) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 2
    jobs, timeline = many_jobs(5, "ann"), Timeline()
    fail_all(timeline, jobs)
    timeline.advance(minutes=1)
    assert form_bundles(timeline.now) == 1
    assert form_bundles(timeline.now) == 0
    bundle = Notification.objects.get(event="bundle")
    assert bundle.members.count() == len(bundle.facts["members"]) == 4, "one was sent at once"


def test_retired_hosts_of_a_deployment_are_told_once(mail_server: MailServer) -> None:
    """50 pods go: one message about the incidents that end with them."""
    job = make_subscribed_job(hostname="*")
    timeline = Timeline()
    for index in range(50):
        host = f"pod{index}"
        Host.objects.create(name=host, last_tick_at=timeline.now)
        incident = Incident(
            job=job, job_name=job.name, host=host, kind="failing", severity="warning",
            opened_at=timeline.now - timedelta(hours=1), last_seen_at=timeline.now,
            notified_severity="warning",
        )  # fmt: skip
        incident.save()
        Notification.objects.create(
            job=job, incident=incident, event="opened", channel="mail", key=host,
            recipient="ann@example.com", created_at=incident.opened_at, sent_at=incident.opened_at,
        )  # fmt: skip
    for index in range(50):
        assert retire_host(f"pod{index}", timeline.now)
    send_for(timeline, 8)
    assert 1 <= len(mail_server.mails) <= 2
    told = "".join(text_of(mail) for mail in mail_server.mails)
    assert set(re.findall(r"on pod(\d+)\b", told)) == {str(index) for index in range(50)}
    assert "The host was retired." in told


def test_webhook_gets_each_notification(settings: Any, webhook_receiver: Any) -> None:
    """A program cannot read a list that is made for people."""
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    settings.CHRONIKER_WEBHOOK_URL = webhook_receiver.url
    settings.CHRONIKER_WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 6
    settings.CHRONIKER_STORM_INCIDENTS = 2
    jobs, timeline = many_jobs(5), Timeline()
    fail_all(timeline, jobs)
    while timeline.send():
        pass
    assert len(webhook_receiver.requests) == 5


def test_obsolete_notifications_are_not_listed(mail_server: MailServer, settings: Any) -> None:
    settings.CHRONIKER_STORM_INCIDENTS = 2
    jobs, timeline = many_jobs(5, "ann", reminder_hours=1), Timeline()
    fail_all(timeline, jobs)
    send_for(timeline, 2)
    mail_server.reset()
    timeline.advance(hours=1)
    timeline.evaluate_incidents()
    run_transaction(
        lambda: Incident.objects.filter(job=jobs[4]).update(acknowledged_at=timeline.now)
    )
    send_for(timeline, 2)
    assert named(mail_server.mails) == {job.name for job in jobs[:4]}
