"""Sequences of runs give exactly the expected mails, each once, in one mail thread."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from chroniker.alerting.outbox import committed, enqueue, notification_key
from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Job, Notification
from tests.factories import NOON, make_incident, make_run, make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import Timeline

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("letters", "failures", "events"),
    [
        ("S", 1, []),
        ("F", 1, ["opened"]),
        ("FFFFS", 1, ["opened", "resolved"]),
        ("FFS", 3, []),
        ("FFFS", 3, ["opened", "resolved"]),
        ("FFSFFS", 3, []),
        ("FSFS", 1, ["opened", "resolved", "opened", "resolved"]),
        ("TS", 1, ["opened", "resolved"]),
        ("LS", 1, ["opened", "resolved"]),
        ("XXXX", 1, []),
        ("FXFS", 2, ["opened", "resolved"]),
        ("FXS", 1, ["opened", "resolved"]),
    ],
)
def test_sequence_of_runs_gives_exactly_these_mails(
    mail_server: MailServer, letters: str, failures: int, events: list[str]
) -> None:
    job = make_subscribed_job(failures_before_alert=failures)
    timeline = Timeline()
    timeline.run(job, letters)
    assert mail_server.event_names() == events
    assert len({mail["Message-ID"] for mail in mail_server.mails}) == len(events)
    assert Incident.objects.open().count() == (1 if letters[-1] in "FTL" and events else 0)
    assert timeline.state(job).failing_incident == Incident.objects.open().exists()
    assert not Notification.objects.pending().exists()


def test_incident_is_one_thread(mail_server: MailServer) -> None:
    job = make_subscribed_job(reminder_hours=1)
    Timeline().run(job, "F" * 8 + "S")
    assert mail_server.event_names() == ["opened", "reminder", "resolved"]
    opened, *others = mail_server.mails
    for mail in others:
        assert mail["References"] == mail["In-Reply-To"] == opened["Message-ID"]
    assert opened["References"] is None


@pytest.mark.slow
def test_reminders_repeat_until_acknowledged(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job(reminder_hours=24)
    timeline = Timeline()
    timeline.run(job, "F", every=0)
    for _ in range(50):
        timeline.advance(hours=1).evaluate_incidents()
        timeline.send()
    assert mail_server.event_names() == ["opened", "reminder", "reminder"]
    Incident.objects.update(acknowledged_at=timeline.now)
    for _ in range(50):
        timeline.advance(hours=1).evaluate_incidents()
        timeline.send()
    assert mail_server.event_names() == ["opened", "reminder", "reminder"]
    timeline.run(job, "S")
    assert mail_server.event_names()[-1] == "resolved"


def test_without_reminder_hours_no_reminder_is_sent(mail_server: MailServer) -> None:
    job = make_subscribed_job(reminder_hours=None)
    timeline = Timeline()
    timeline.run(job, "F")
    timeline.advance(days=30).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    assert not Incident.objects.filter(next_review_at__isnull=False).exists()


@pytest.mark.slow
def test_flapping_is_notified_once_until_stable(
    mail_server: MailServer,
) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    timeline.run(job, "FS" * 10)
    assert mail_server.event_names() == ["opened", "resolved", "opened", "resolved", "flapping"]
    timeline.advance(minutes=30).evaluate_incidents()
    timeline.send()
    assert len(mail_server.mails) == 5, "not calm yet"
    timeline.advance(minutes=31).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names()[5:] == ["resolved"]
    flapping, resolved = mail_server.mails[4:]
    assert resolved["References"] == flapping["References"]
    timeline.run(job, "FS")
    assert mail_server.event_names()[6:] == ["opened", "resolved"], "the count started again"


def test_failure_that_persists_after_flapping_is_notified(mail_server: MailServer) -> None:
    job = make_subscribed_job(reminder_hours=None)
    timeline = Timeline()
    timeline.run(job, "FSFSF" + "FFFFFFF")
    assert mail_server.event_names() == [
        "opened",
        "resolved",
        "opened",
        "resolved",
        "flapping",
        "opened",
    ]
    timeline.run(job, "S")
    assert mail_server.event_names()[6:] == ["resolved"]


def test_odd_flapping_limit_ends_in_flapping(mail_server: MailServer, settings: Any) -> None:
    settings.CHRONIKER_FLAPPING_FLIPS = 3
    job = make_subscribed_job()
    timeline = Timeline()
    timeline.run(job, "FSFSFS")
    assert mail_server.event_names() == ["opened", "resolved", "opened", "flapping"]
    timeline.advance(hours=2).evaluate_incidents()
    timeline.send()
    assert mail_server.event_names()[4:] == ["resolved"]


def test_changes_of_yesterday_do_not_count_as_flapping(mail_server: MailServer) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    timeline.run(job, "FSFS")
    timeline.advance(days=1)
    timeline.run(job, "FSFS")
    assert "flapping" not in mail_server.event_names()
    assert len(mail_server.mails) == 8


def test_forty_subscribers_get_separate_mails(
    mail_server: MailServer,
) -> None:
    names = [f"user{number}" for number in range(40)]
    job = make_subscribed_job(*names)
    timeline = Timeline()
    timeline.run(job, "F")
    while timeline.send():
        pass
    assert sorted(str(mail["To"]) for mail in mail_server.mails) == sorted(
        f"{name}@example.com" for name in names
    )
    assert all(len(mail.envelope_to) == 1 for mail in mail_server.mails)  # type: ignore[attr-defined]
    assert len({mail["Message-ID"] for mail in mail_server.mails}) == 40


def test_success_is_notified_with_email_on_success(mail_server: MailServer) -> None:
    job = make_subscribed_job(email_on_success=True)
    Timeline().run(job, "SSF")
    assert mail_server.event_names() == ["succeeded", "succeeded", "opened"]
    first, second = mail_server.mails[:2]
    assert first["Message-ID"] != second["Message-ID"]


def test_failure_is_not_mailed_without_email_on_failure(mail_server: MailServer) -> None:
    job = make_subscribed_job(email_on_failure=False)
    Timeline().run(job, "FFS")
    assert mail_server.mails == []
    assert Incident.objects.count() == 1, "but it is an incident all the same"


def test_job_whose_failures_open_no_incidents_has_none(mail_server: MailServer) -> None:
    job = make_subscribed_job(failures_open_incidents=False)
    Timeline().run(job, "FFS")
    assert not Incident.objects.exists()


def test_disabled_job_has_no_open_incident(mail_server: MailServer) -> None:
    from chroniker.engine.planning import plan_changed_jobs

    job = make_subscribed_job()
    timeline = Timeline()
    timeline.run(job, "F")
    Job.objects.filter(pk=job.pk).update(enabled=False)
    plan_changed_jobs(timeline.now)
    timeline.send()
    assert mail_server.event_names() == ["opened", "closed"]
    assert "disabled" in Incident.objects.get().resolution
    assert not timeline.state(job).failing_incident


def test_incidents_are_separate_per_host(mail_server: MailServer) -> None:
    job = make_subscribed_job(hostname="*", name="backup")
    run_once, two = Timeline("web1"), None
    run_once.run(job, "F")
    two = Timeline("web2")
    from chroniker.engine.planning import plan_for_new_host

    plan_for_new_host("web2", two.now)
    two.run(job, "FS")
    assert mail_server.event_names() == ["opened", "opened", "resolved"]
    assert [incident.host for incident in Incident.objects.open()] == ["web1"]
    assert "backup on web2" in mail_server.subjects()[-1]


def test_success_without_incident_needs_no_query(
    mail_server: MailServer, django_assert_max_num_queries: Any
) -> None:
    job = make_subscribed_job()
    timeline = Timeline()
    item = timeline.start(job)
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        timeline.end(item, "S")
    statements = [query["sql"] for query in captured.captured_queries]
    reported = [s for s in statements if "incident" in s.lower() and "UPDATE" not in s]
    assert not reported
    writes = [s for s in statements if s.startswith(("UPDATE", "INSERT"))]
    assert len(writes) == 2, "the state and the run"


def test_resolution_is_notified_after_a_late_opening(mail_server: MailServer) -> None:
    """The mail server was down during the incident: both mails are sent later, in order."""
    job = make_subscribed_job()
    timeline = Timeline()
    mail_server.refuse.add("*")
    timeline.run(job, "FS", every=1)
    assert mail_server.mails == []
    mail_server.refuse.clear()
    for _ in range(4):
        timeline.advance(hours=1).send()
    assert mail_server.event_names() == ["opened", "resolved"]


def test_resolution_is_sent_only_to_recipients_of_the_opening(mail_server: MailServer) -> None:
    from tests.factories import make_user

    job = make_subscribed_job()
    timeline = Timeline()
    timeline.run(job, "F")
    job.subscribers.add(make_user("newcomer"))
    timeline.run(job, "S")
    assert [str(mail["To"]) for mail in mail_server.mails] == ["ann@example.com"] * 2


# --- rows ---


def key(**changes: Any) -> str:
    parts = {
        "incident": 1, "run": None, "event": "opened", "discriminator": "", "channel": "mail",
        "recipient": "ann@example.com",
    }  # fmt: skip
    return notification_key(**parts | changes)


@pytest.mark.parametrize(
    "change",
    [
        {"incident": 2}, {"run": 1}, {"event": "resolved"}, {"discriminator": "x"},
        {"channel": "site.Chat"}, {"recipient": "bob@example.com"},
    ],
)  # fmt: skip
def test_each_part_makes_another_notification(change: dict[str, Any]) -> None:
    assert key(**change) != key()


def test_key_is_the_same_in_each_release_and_for_each_case() -> None:
    assert key() == "44935616876c94e7893a9cc53b83c9cf99cd24516051989b3fc8a8005619649a"
    assert key(recipient="Ann@Example.com") == key()
    assert key(recipient="\udcff")


def test_notification_is_written_once_and_due_at_once() -> None:
    job = make_subscribed_job()
    incident, run = make_incident(job), make_run(job)
    recipients = [("mail", "ann@example.com"), ("site.Chat", "")]
    for event in ("opened", "opened", "resolved"):
        written = enqueue(
            NotificationEvent(event), recipients, NOON, job=job, incident=incident, run=run,
            facts={"severity": "warning"},
        )  # fmt: skip
        assert written == 2
    assert Notification.objects.count() == 4
    row = Notification.objects.get(event="opened", channel="mail")
    assert (row.job, row.incident, row.run) == (job, incident, run)
    assert (row.created_at, row.next_attempt_at, row.recipient) == (NOON, NOON, "ann@example.com")
    assert (row.facts, row.attempts, row.sent_at) == ({"severity": "warning"}, 0, None)


def test_runs_of_one_incident_share_their_notification() -> None:
    job = make_subscribed_job()
    incident = make_incident(job)
    for with_incident in (incident, None):
        for run in (make_run(job), make_run(job)):
            enqueue(
                NotificationEvent.OPENED, [("mail", "ann@example.com")], NOON, job=job,
                incident=with_incident, run=run,
            )  # fmt: skip
    assert Notification.objects.filter(incident=incident).count() == 1
    assert Notification.objects.filter(incident=None).count() == 2


def test_committed_notifications_are_sent_without_delay() -> None:
    job, recipients = make_subscribed_job(), [("mail", "ann@example.com")]
    committed.test_and_clear()
    with transaction.atomic():
        assert enqueue(NotificationEvent.OPENED, [], NOON, job=job) == 0
    assert not committed.test_and_clear()
    with transaction.atomic():
        enqueue(NotificationEvent.OPENED, recipients, NOON, job=job)
        assert not committed.test_and_clear()
    assert committed.test_and_clear()
    assert not committed.test_and_clear()
