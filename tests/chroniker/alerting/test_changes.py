"""Deleted and renamed jobs, and subscribers who come late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import IncidentEnd
from chroniker.models import Incident, Job, Notification
from chroniker_monitors.models import Monitor
from tests.factories import make_incident, make_job, make_monitor, make_subscribed_job, make_user
from tests.support.mail_server import MailServer, text_of
from tests.support.timeline import START, Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]


@pytest.mark.parametrize("how", ["row", "query"])
def test_deleted_job_ends_its_incident(mail_server: MailServer, how: str) -> None:
    job, timeline = make_subscribed_job(name="import"), Timeline()
    timeline.run(job, "F")
    if how == "row":
        job.delete()
    else:
        Job.objects.all().delete()
    timeline.catch_up().send()
    assert mail_server.event_names() == ["opened", "closed"]
    assert "Closed: import. The job was deleted." in mail_server.subjects()[1]
    incident = Incident.objects.get()
    assert (incident.job, incident.ended_by) == (None, IncidentEnd.DELETED)
    assert str(incident) == "import: failing"
    # The opening and the end are one thread.
    assert mail_server.mails[1]["In-Reply-To"] == mail_server.mails[0]["Message-ID"]


def test_job_deleted_before_the_opening_is_sent(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job(name="import"), Timeline()
    timeline.run_once(job, "F")
    job.delete()
    timeline.catch_up()
    for _ in range(3):
        timeline.send()
        timeline.advance(minutes=1)
    assert mail_server.event_names() == ["opened", "closed"]
    assert "import failed" in mail_server.subjects()[0]


def test_deleted_monitor_ends_its_incident() -> None:
    monitor = make_monitor()
    make_incident(monitor, kind="condition")
    Monitor.objects.get(pk=monitor.pk).delete()
    incident = Incident.objects.get()
    assert (incident.ended_by, incident.resolution) == ("deleted", "The job was deleted.")


def test_renamed_job_keeps_its_incident(mail_server: MailServer) -> None:
    job = make_subscribed_job(
        name="import", schedule="@every 1h", created_at=START - timedelta(minutes=60)
    )
    timeline = Timeline()
    timeline.run_once(job, "F")
    timeline.send()
    Job.objects.filter(pk=job.pk).update(name="import sales")
    plan_changed_jobs(timeline.now)
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    timeline.run(Job.objects.get(pk=job.pk), "S")
    opened, resolved = mail_server.mails
    assert "Recovered: import sales." in str(resolved["Subject"])
    assert "it was called import when the incident opened" in text_of(resolved)
    assert resolved["In-Reply-To"] == opened["Message-ID"]


def test_renamed_overdue_job_keeps_its_incident() -> None:
    job = make_subscribed_job(
        hostname="gone", schedule="@every 1h", created_at=START - timedelta(minutes=60)
    )
    timeline = Timeline()
    timeline.advance(minutes=6).evaluate_incidents()
    Job.objects.filter(pk=job.pk).update(name="another name | with a bar")
    plan_changed_jobs(timeline.now)
    assert Incident.objects.open().count() == 1
    Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
    plan_changed_jobs(timeline.now)
    assert not Incident.objects.open().exists()


def test_late_subscriber_gets_the_opening_once(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job("ann"), Timeline()
    timeline.run(job, "F")
    bob = make_user("bob")
    job.subscribers.add(bob)
    job.subscribers.add(bob)
    job.subscribers.set([bob, *job.subscribers.all()])
    timeline.catch_up().send()
    assert [str(mail["To"]) for mail in mail_server.mails] == ["ann@example.com", "bob@example.com"]
    timeline.run(job, "S")
    assert mail_server.event_names() == ["opened", "opened", "resolved", "resolved"]


def test_late_group_and_late_member_get_the_opening(mail_server: MailServer) -> None:
    job, timeline = make_subscribed_job("ann"), Timeline()
    timeline.run(job, "F")
    group, bob, cleo = Group.objects.create(name="ops"), make_user("bob"), make_user("cleo")
    bob.groups.add(group)
    job.subscriber_groups.add(group)
    group.user_set.add(cleo)
    timeline.catch_up().send()
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == [
        "ann@example.com", "bob@example.com", "cleo@example.com",
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["muted", "resolved", "folded"])
def test_late_subscriber_is_not_notified_of_what_nobody_was(state: str) -> None:
    fields = {
        "muted": {"muted": True},
        "resolved": {"resolved_at": START, "notified_severity": "warning"},
        "folded": {"cause": make_incident()},
    }[state]
    incident = make_incident(make_job(), **fields)
    assert incident.job is not None
    incident.job.subscribers.add(make_user("bob"))
    assert not Notification.objects.exists()
