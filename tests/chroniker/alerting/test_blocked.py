"""Jobs that cannot start by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.engine.planning import plan_changed_jobs
from chroniker.enums import IncidentEnd, IncidentKind
from chroniker.models import Incident, Job, JobDependency
from tests.factories import make_job, make_maintenance, make_subscribed_job
from tests.support.mail_server import MailServer, text_of
from tests.support.timeline import START, Timeline

pytestmark = pytest.mark.django_db(transaction=True)

DUE = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=60)}
LATER = {"schedule": "@every 12h", "created_at": START - timedelta(minutes=60)}


def tick(timeline: Timeline, minutes: float = 1) -> None:
    plan_changed_jobs(timeline.advance(minutes=minutes).now)
    timeline.evaluate_incidents()
    while timeline.send():
        pass


def waiting_job(*subscribers: str, upstream: Job, **fields: Any) -> Job:
    job = make_subscribed_job(*subscribers, **{**DUE, **fields})
    JobDependency.objects.create(downstream=job, upstream=upstream)
    return job


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        ({"enabled": False, **LATER}, "which is disabled"),
        ({}, "which has no schedule"),
        ({**LATER}, None),  # it runs again
    ],
)
def test_blocked_for_ever_names_what_it_waits_for(
    mail_server: MailServer, upstream: dict[str, Any], words: str | None
) -> None:
    other = make_job(name="fetch", **upstream)
    job = waiting_job(upstream=other, alert_severity="critical")
    timeline = Timeline()
    tick(timeline, 4)
    assert mail_server.mails == []
    for _ in range(4):
        tick(timeline, 3)
    if words is None:
        assert mail_server.mails == []
        return
    (subject,) = mail_server.subjects()
    assert f"Critical: {job.name} is blocked. It waits for fetch, {words}" in subject
    assert "Waits for:    fetch" in text_of(mail_server.mails[0])


def test_enabled_again_upstream_ends_it(mail_server: MailServer) -> None:
    other = make_job(name="fetch", enabled=False, **LATER)
    job = waiting_job(upstream=other)
    timeline = Timeline()
    tick(timeline, 6)
    Job.objects.filter(pk=other.pk).update(enabled=True)
    tick(timeline)
    timeline.run_once(other, "S")
    timeline.end(timeline.start(job, force=False), "S")
    tick(timeline)
    assert mail_server.event_names() == ["opened", "resolved"]
    assert Incident.objects.get().ended_by == IncidentEnd.RECOVERED


def test_removed_dependency_ends_it_at_the_next_check(mail_server: MailServer) -> None:
    job = waiting_job(upstream=make_job(enabled=False, **LATER), hostname="gone")
    timeline = Timeline()
    tick(timeline, 6)
    JobDependency.objects.all().delete()
    tick(timeline, 6)
    tick(timeline)
    # It is not blocked any more, but nothing starts it.
    assert mail_server.event_names() == ["opened", "resolved", "opened"]
    assert f"{job.name} is overdue" in mail_server.subjects()[-1]


def test_failing_upstream_folds_the_jobs_that_wait(mail_server: MailServer) -> None:
    upstream = make_subscribed_job("ann", name="fetch", **LATER)
    timeline = Timeline()
    timeline.run_once(upstream, "F")
    waiting_job("bob", name="report", upstream=upstream)
    last = waiting_job("cleo", name="mailing", upstream=Job.objects.get(name="report"))
    for _ in range(6):
        tick(timeline, 2)
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == [
        "ann@example.com", "bob@example.com", "cleo@example.com",
    ]  # fmt: skip
    assert {str(mail["X-Chroniker-Job"]) for mail in mail_server.mails} == {"fetch"}
    folded = Incident.objects.filter(kind=IncidentKind.BLOCKED)
    assert {incident.cause.job.name for incident in folded if incident.cause} == {"fetch"}
    assert "report" in text_of(mail_server.to("cleo@example.com")[0])
    mail_server.reset()
    # Those who were notified of the cause are notified of its end; the rest starts.
    timeline.run_once(upstream, "S")
    for name in ("report", "mailing"):
        timeline.end(timeline.start(Job.objects.get(name=name), force=False), "S")
    for _ in range(5):
        tick(timeline, 2)
    assert mail_server.event_names() == ["resolved"] * 3
    assert last.pk and not Incident.objects.open().exists()


def test_what_is_still_blocked_when_its_cause_is_over_is_announced(mail_server: MailServer) -> None:
    upstream = make_subscribed_job("ann", name="fetch", **LATER)
    timeline = Timeline()
    timeline.run_once(upstream, "F")
    waiting_job("bob", name="report", upstream=upstream)
    tick(timeline, 6)
    Job.objects.filter(pk=upstream.pk).update(enabled=False)
    for _ in range(5):
        tick(timeline, 2)
    bob = mail_server.to("bob@example.com")
    assert [str(mail["X-Chroniker-Event"]) for mail in bob] == ["opened", "closed", "opened"]
    assert "report is blocked. It waits for fetch, which is disabled." in str(bob[-1]["Subject"])


def test_unreadable_schedule_opens_an_incident_and_its_correction_closes_it(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job(schedule="@every 1h")
    timeline = Timeline()
    Job.objects.filter(pk=job.pk).update(schedule="every now and then")
    tick(timeline)
    tick(timeline, 6)
    (subject,) = mail_server.subjects()
    assert "is blocked. The schedule cannot be used" in subject
    Job.objects.filter(pk=job.pk).update(schedule="every third Sunday")
    tick(timeline)
    assert mail_server.event_names() == ["opened"]
    Job.objects.filter(pk=job.pk).update(schedule="@every 2h")
    tick(timeline)
    assert mail_server.event_names() == ["opened", "closed"]
    assert Incident.objects.get().ended_by == IncidentEnd.CHANGED


def test_announced_incident_stays_announced_when_a_cause_appears(mail_server: MailServer) -> None:
    """Only an opening is folded: the end of what was announced is reported."""
    upstream = make_subscribed_job("ann", name="fetch", enabled=False, **LATER)
    job = waiting_job("bob", name="report", upstream=upstream)
    timeline = Timeline()
    tick(timeline, 6)
    Job.objects.filter(pk=upstream.pk).update(enabled=True)
    tick(timeline)
    timeline.run_once(upstream, "F")
    for _ in range(5):
        tick(timeline, 2)
    timeline.run_once(upstream, "S")
    timeline.end(timeline.start(job, force=False), "S")
    tick(timeline)
    bob = [str(mail["X-Chroniker-Event"]) for mail in mail_server.to("bob@example.com")]
    assert bob == ["opened", "resolved"]


def test_job_that_waits_for_a_muted_one_is_announced_itself(mail_server: MailServer) -> None:
    fetch = make_subscribed_job("ann", name="fetch", **LATER)
    make_maintenance(START, 600, fetch)
    waiting_job("bob", upstream=fetch)
    timeline = Timeline()
    timeline.run_once(fetch, "F")
    for _ in range(4):
        tick(timeline, 3)
    assert [mail["To"] for mail in mail_server.mails] == ["bob@example.com"]
    assert "It waits for fetch" in mail_server.subjects()[0]
