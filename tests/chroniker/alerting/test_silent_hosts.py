"""A silent host is one incident, and those of its jobs are folded into it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from chroniker.alerting import silent_hosts
from chroniker.alerting.silent_hosts import end_silence
from chroniker.db.transactions import run_transaction
from chroniker.engine.heartbeat import record_heartbeat
from chroniker.engine.planning import plan_changed_jobs
from chroniker.engine.retirement import retire_host
from chroniker.enums import IncidentEnd, IncidentKind, Severity
from chroniker.models import Host, Incident, Job, JobState, Notification
from chroniker.signals import incident_opened
from tests.factories import make_job, make_maintenance, make_subscribed_job, make_user
from tests.support.mail_server import MailServer, text_of
from tests.support.timeline import START, Timeline

pytestmark = pytest.mark.django_db(transaction=True)

DUE = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=60)}


def silent_host(name: str = "web3") -> Host:
    return Host.objects.create(name=name, last_tick_at=START - timedelta(minutes=1))


def tick(timeline: Timeline, minutes: float = 1) -> None:
    timeline.advance(minutes=minutes).evaluate_incidents()
    while timeline.send():
        pass


def test_host_that_is_back_and_starts_its_jobs_is_one_more_message(
    mail_server: MailServer,
) -> None:
    silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    tick(timeline, 6)
    timeline.host = "web3"
    end_silence("web3", timeline.now)
    timeline.end(timeline.start(job, force=False), "S")
    for _ in range(4):
        tick(timeline, 3)
    assert mail_server.event_names() == ["opened", "resolved"]


@pytest.mark.slow
def test_dead_host_with_500_pinned_jobs_is_one_message(mail_server: MailServer) -> None:
    silent_host()
    ann = make_user("ann")
    jobs = Job.objects.bulk_create(
        Job(name=f"job {number}", command="noop", hostname="web3", **DUE) for number in range(500)
    )
    through = Job.subscribers.through
    through.objects.bulk_create(through(job_id=job.pk, user_id=ann.pk) for job in jobs)
    timeline = Timeline()
    for _ in range(10):
        tick(timeline, 2)
    (mail,) = mail_server.mails
    assert "Host web3 is silent" in str(mail["Subject"])
    assert "500 jobs wait for this" in text_of(mail)
    # Nothing but the opening is folded: each job has its incident.
    assert Incident.objects.open().filter(kind=IncidentKind.OVERDUE).count() == 500


def test_what_is_still_wrong_when_the_host_is_back_is_announced(mail_server: MailServer) -> None:
    silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    tick(timeline, 6)
    assert mail_server.event_names() == ["opened"]
    Host.objects.update(last_tick_at=timeline.now + timedelta(minutes=5))
    end_silence("web3", timeline.now)
    tick(timeline)
    assert mail_server.event_names() == ["opened", "resolved"]
    tick(timeline, 3)
    assert mail_server.event_names() == ["opened", "resolved"], "it has time to start"
    tick(timeline, 2)
    assert mail_server.event_names() == ["opened", "resolved", "opened"]
    assert f"{job.name} is overdue" in mail_server.subjects()[-1]
    timeline.host = "web3"
    timeline.end(timeline.start(job, force=False), "S")
    tick(timeline)
    assert mail_server.event_names()[-1] == "resolved"


def test_retired_host_ends_its_incident_once_and_its_jobs_are_announced(
    mail_server: MailServer,
) -> None:
    silent_host()
    make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    tick(timeline, 6)
    assert retire_host("web3", timeline.now)
    for _ in range(6):
        tick(timeline, 2)
    assert mail_server.event_names() == ["opened", "closed", "opened"]
    assert "The host was retired." in mail_server.subjects()[1]
    assert "retired" in text_of(mail_server.mails[2])
    assert Incident.objects.get(kind=IncidentKind.HOST).ended_by == IncidentEnd.RETIRED


def test_later_job_of_the_host_notifies_its_own_subscribers_of_the_host(
    mail_server: MailServer,
) -> None:
    silent_host()
    make_subscribed_job("ann", hostname="web3", **DUE)
    later = {"schedule": "@every 1h", "created_at": START - timedelta(minutes=50)}
    make_subscribed_job("bob", hostname="web3", alert_severity="critical", **later)
    timeline = Timeline()
    tick(timeline, 6)
    assert [mail["To"] for mail in mail_server.mails] == ["ann@example.com"]
    tick(timeline, 11)
    assert len(mail_server.to("ann@example.com")) == 2  # opened, and now critical
    assert {mail["X-Chroniker-Event"] for mail in mail_server.to("bob@example.com")} >= {"opened"}
    assert Incident.objects.get(kind=IncidentKind.HOST).severity == Severity.CRITICAL


def test_job_in_a_window_is_folded_when_the_window_ends(mail_server: MailServer) -> None:
    silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    make_maintenance(START, 30, job)
    timeline = Timeline()
    for _ in range(8):
        tick(timeline, 3)
    assert mail_server.mails == []
    for _ in range(8):
        tick(timeline, 3)
    assert [str(mail["X-Chroniker-Host"]) for mail in mail_server.mails] == ["web3"]
    assert Incident.objects.get(kind=IncidentKind.OVERDUE).cause is not None


def test_host_that_ticks_is_not_silent() -> None:
    Host.objects.create(name="web3", last_tick_at=START + timedelta(minutes=5))
    make_subscribed_job(hostname="web3", **DUE)
    tick(Timeline(), 6)
    assert [incident.kind for incident in Incident.objects.all()] == ["overdue"]


def test_heartbeat_of_the_host_notices_its_incident() -> None:
    Incident.objects.create(
        host="web3", kind=IncidentKind.HOST, severity="warning", opened_at=START,
        last_seen_at=START,
    )  # fmt: skip
    assert record_heartbeat("web3").host_incident
    assert not record_heartbeat("web1").host_incident


def test_moved_job_leaves_the_incident_of_the_host(mail_server: MailServer) -> None:
    silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    tick(timeline, 6)
    Job.objects.filter(pk=job.pk).update(hostname="web1")
    plan_changed_jobs(timeline.now)
    tick(timeline)
    assert not Incident.objects.open().filter(kind=IncidentKind.OVERDUE).exists()
    assert not JobState.objects.get(job=job).overdue_incident
    assert mail_server.event_names() == ["opened", "closed"]


@pytest.mark.parametrize("change", ["moved", "disabled", "deleted"])
def test_host_that_no_job_waits_for_any_more_has_no_incident(
    change: str,
) -> None:
    silent_host()
    jobs = [make_subscribed_job(hostname="web3", **DUE), make_job(hostname="web3", **DUE)]
    timeline = Timeline()
    timeline.advance(minutes=6).evaluate_incidents()
    for number, job in enumerate(jobs):
        host = Incident.objects.get(kind=IncidentKind.HOST)
        assert host.is_open, f"{2 - number} jobs wait for it"
        match change:
            case "moved":
                Job.objects.filter(pk=job.pk).update(hostname="web1")
            case "disabled":
                Job.objects.filter(pk=job.pk).update(enabled=False)
            case "deleted":
                job.delete()
        plan_changed_jobs(timeline.now)
    host.refresh_from_db()
    assert (host.ended_by, host.resolution) == ("changed", "No job waits for it any more.")
    events = Notification.objects.order_by("pk").values_list("event", flat=True)
    assert list(events) == ["opened", "closed"]


def test_host_whose_jobs_are_all_muted_is_muted_too(settings: Any) -> None:
    settings.CHRONIKER_APPRISE_URLS = ["json://localhost"]
    silent_host()
    make_maintenance(START, 30, make_subscribed_job(hostname="web3", **DUE))
    timeline = Timeline()
    timeline.advance(minutes=7).evaluate_incidents()
    assert [incident.kind for incident in Incident.objects.all()] == ["overdue"]
    assert not Notification.objects.exists()


def test_jobs_beyond_the_limit_are_folded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_hosts, "_LIMIT", 3)
    silent_host()
    for _ in range(8):
        make_job(hostname="web3", **DUE)
    timeline = Timeline()
    timeline.advance(minutes=7).evaluate_incidents()
    overdue = Incident.objects.filter(kind=IncidentKind.OVERDUE)
    assert overdue.count() == 3
    timeline.evaluate_incidents()
    timeline.evaluate_incidents()
    assert overdue.exclude(cause=None).count() == overdue.count() == 8


def test_subscriber_of_a_folded_job_learns_of_the_host() -> None:
    silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    Timeline().advance(minutes=7).evaluate_incidents()
    job.subscribers.add(make_user("zoe"))
    (told,) = Notification.objects.filter(recipient="zoe@example.com")
    assert (told.event, told.incident.kind) == ("opened", IncidentKind.HOST)


def test_host_that_ticks_meanwhile_is_not_silent() -> None:
    host = silent_host()
    job = make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    timeline.advance(minutes=7)
    due_before = timeline.now - timedelta(minutes=5)
    states = list(JobState.objects.filter(job=job).select_related("job"))
    Host.objects.update(last_tick_at=timeline.now)
    run_transaction(lambda: silent_hosts._fold(host, states, due_before, timeline.now))
    assert not Incident.objects.exists()


def test_jobs_are_announced_when_the_incident_of_the_host_is_deleted(
    mail_server: MailServer,
) -> None:
    silent_host()
    make_subscribed_job(hostname="web3", **DUE)
    timeline = Timeline()
    tick(timeline, 7)
    Incident.objects.filter(kind=IncidentKind.HOST).delete()
    timeline.catch_up()
    Host.objects.update(last_tick_at=timeline.now + timedelta(minutes=5))
    tick(timeline, 6)
    assert "is overdue" in mail_server.subjects()[-1]


def test_each_incident_of_a_silent_host_is_sent_as_a_signal() -> None:
    opened: list[str] = []

    def receive(incident: Incident, **kwargs: object) -> None:
        opened.append(incident.kind)

    silent_host()
    for _ in range(2):
        make_job(hostname="web3", **DUE)
    incident_opened.connect(receive)
    try:
        Timeline().advance(minutes=7).evaluate_incidents()
    finally:
        incident_opened.disconnect(receive)
    assert sorted(opened) == ["host", "overdue", "overdue"]


def test_name_of_a_host_that_differs_in_case_stops_no_tick() -> None:
    silent_host("web3")
    make_job(hostname="WEB3", **DUE)
    timeline = Timeline()
    timeline.advance(minutes=7).evaluate_incidents()
    folded = Incident.objects.exclude(cause=None).count()
    assert folded == (1 if connection.vendor == "mysql" else 0)


def test_subscribers_learn_that_a_host_flaps(settings: Any) -> None:
    host = silent_host()
    job = make_subscribed_job(
        "ann", hostname="web3", schedule="@every 10m", created_at=START - timedelta(minutes=10)
    )
    timeline = Timeline()
    for cycle in range(6):
        timeline.host = "web1"
        timeline.advance(minutes=17 if cycle else 7).evaluate_incidents()
        Host.objects.filter(pk=host.pk).update(last_tick_at=timeline.now)
        end_silence("web3", timeline.now)
        timeline.host = "web3"
        timeline.end(timeline.start(job, force=False), "S")
    events = Notification.objects.order_by("pk").values_list("event", flat=True)
    assert list(events) == ["opened", "resolved", "opened", "resolved", "flapping"]
