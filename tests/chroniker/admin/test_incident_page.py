"""The page of an incident: acknowledge with a note, timeline, who was notified."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now as utc_now

from chroniker.admin.incident_page import MAX_NOTE, build_timeline
from chroniker.alerting.notified import deliveries
from chroniker.models import Incident
from tests.factories import make_incident, make_job, make_notification, make_run, make_user
from tests.support.admin import admin_url, messages_of, visible_text
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db


def test_incident_is_acknowledged_with_a_note(sign_in: SignIn) -> None:
    incident = make_incident()
    url = admin_url("incident_acknowledge", incident)
    client = sign_in("view_incident", "change_incident")
    answer = client.post(url, {"note": "  disk <b>ordered</b> "}, follow=True)
    assert messages_of(answer)[0].startswith("Acknowledged.")
    incident.refresh_from_db()
    first = incident.acknowledged_at
    assert first is not None
    assert incident.note == "disk <b>ordered</b>"
    assert "disk &lt;b&gt;ordered&lt;/b&gt;" in answer.content.decode()
    assert LogEntry.objects.get().change_message == "Acknowledged: disk <b>ordered</b>"


def test_acknowledging_from_an_older_page_keeps_the_note(sign_in: SignIn) -> None:
    incident = make_incident()
    url = admin_url("incident_acknowledge", incident)
    ann, bob = (sign_in("view_incident", "change_incident") for _ in range(2))
    ann.post(url, {"note": "two", "shown_note": ""}, follow=True)
    by = Incident.objects.get().acknowledged_by
    answer = bob.post(url, {"note": "", "shown_note": ""}, follow=True)
    assert messages_of(answer) == [f"{by} has already acknowledged it. Nothing was changed."]
    answer = bob.post(url, {"note": "three", "shown_note": ""}, follow=True)
    assert messages_of(answer)[0].startswith(f"{by} has already acknowledged it. Somebody else")
    incident = Incident.objects.get()
    assert (incident.acknowledged_by, incident.note) == (by, "two\nthree")
    answer = ann.post(url, {"note": "", "shown_note": "two", "acknowledged": "1"}, follow=True)
    assert messages_of(answer) == ["Somebody else changed the note meanwhile. It was kept."]
    posted = {"note": "four", "shown_note": "two\r\nthree", "acknowledged": "1"}
    answer = ann.post(url, posted, follow=True)
    assert messages_of(answer) == ["Note saved."]
    assert Incident.objects.get().note == "four"
    assert LogEntry.objects.filter(change_message="Note: four").count() == 1


@pytest.mark.parametrize(
    ("note", "words"), [("x" * (MAX_NOTE + 1), "at most 2000 characters"), ("a\0b", "Null")]
)
def test_note_that_cannot_be_stored_is_refused(root: Client, note: str, words: str) -> None:
    url = admin_url("incident_acknowledge", make_incident())
    assert words in messages_of(root.post(url, {"note": note}, follow=True))[0]
    assert Incident.objects.get().acknowledged_at is None
    root.post(url, {"note": "y\r\n" * 900})
    assert Incident.objects.get().note.count("\n") == 899


def test_an_incident_that_has_ended_cannot_be_acknowledged(root: Client) -> None:
    incident = make_incident(resolved_at=utc_now())
    answer = root.post(admin_url("incident_acknowledge", incident), {"note": "x"}, follow=True)
    assert "already ended" in messages_of(answer)[0]
    assert Incident.objects.get().acknowledged_at is None
    assert 'name="note"' not in answer.content.decode()


def test_page_shows_runbook_and_who_was_notified(root: Client) -> None:
    job = make_job(runbook_url="https://wiki.example/x")
    incident = make_incident(job)
    make_notification(incident, "1", sent_at=utc_now(), next_attempt_at=None)
    make_notification(incident, "2", recipient="bob@example.com", attempts=2, last_error="refused")
    answer = root.get(admin_url("incident_change", incident))
    text = visible_text(answer)
    assert 'href="https://wiki.example/x"' in answer.content.decode()
    for words in ("ann@example.com", "sent", "bob@example.com", "waiting", "refused"):
        assert words in text
    assert "notification: opened" in text


def test_page_says_once_who_was_notified(root: Client) -> None:
    cause = make_incident()
    make_notification(cause, "1", sent_at=utc_now(), next_attempt_at=None)
    page = root.get(admin_url("incident_change", make_incident(kind="overdue", cause=cause)))
    text = visible_text(page)
    assert "Only of its cause: 1 recipient notified." in text and "ann@example.com" in text
    assert "Nobody" not in text


def test_nobody_notified_says_why(root: Client, settings: Any) -> None:
    without_address = make_job()
    without_address.subscribers.add(make_user("bob", email=""))
    for incident, words in (
        (make_incident(), "the job has no subscribers, and there is no other channel"),
        (make_incident(muted=True), "a maintenance window mutes it"),
        (make_incident(flapping=True), "it is flapping"),
        (make_incident(without_address), "They have no email address"),
        (make_incident(make_job(email_on_failure=False)), "sends no email on failure"),
        (make_host_incident(), "no channel is configured"),
    ):
        text = visible_text(root.get(admin_url("incident_change", incident)))
        assert text.count("Nobody") == 1 and words in text
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    text = visible_text(root.get(admin_url("incident_change", make_incident())))
    assert "no other channel" not in text


def make_host_incident(**fields: Any) -> Incident:
    now = utc_now()
    return Incident.objects.create(
        kind="host", host="web9", severity="critical", opened_at=now, last_seen_at=now, **fields
    )


def test_incident_without_a_job_does_not_send_to_its_form(root: Client) -> None:
    text = visible_text(root.get(admin_url("incident_change", make_host_incident())))
    assert "runbook" not in text and "retire it" in text and "web9" in text
    deleted = make_incident(job_name="nightly", resolved_at=utc_now(), ended_by="deleted",
                            resolution="The job was deleted.")  # fmt: skip
    Incident.objects.filter(pk=deleted.pk).update(job=None)
    text = visible_text(root.get(admin_url("incident_change", deleted)))
    assert "nightly (deleted)" in text and "runbook" not in text
    assert "closed" in text and "resolved" not in text


def test_snapshot_is_shown_and_masked(root: Client, sign_in: SignIn, settings: Any) -> None:
    settings.SHOP_API_TOKEN = "tok-3f8a1c99"
    snapshot = {
        "taken_at": utc_now().isoformat(), "host": "web7", "load": [3.5, 2, 1], "cores": 2,
        "memory_percent": 91.0, "memory_available_bytes": 10**9, "swap_percent": 0,
        "processes": [{"pid": 4711, "name": "py\u202e<b>", "cpu_percent": 98, "rss_bytes": 10**8}],
        "running": [{"job": "nightly", "host": "web7"}],
        "locks": [{"waiting": 1, "holding": 2, "state": "active", "seconds": 4,
                   "query": "UPDATE x SET y = 'tok-3f8a1c99'"}],
    }  # fmt: skip
    incident = make_incident(snapshot=snapshot)
    url = admin_url("incident_change", incident)
    answer = root.get(url)
    text = visible_text(answer)
    for words in ("Host web7: load 3.5, 2, 1 on 2 cores", "98 %", "nightly on web7", "UPDATE x"):
        assert words in text, words
    assert "tok-3f8a1c99" not in text and "\u202e" not in text and "py\\u202e&lt;b&gt;" in text
    auditor = visible_text(sign_in("view_incident").get(url))
    assert "load 3.5" in auditor
    for hidden in ("4711", "UPDATE", "nightly on web7"):
        assert hidden not in auditor


def test_page_makes_at_most_ten_queries(root: Client) -> None:
    job = make_job()
    run = make_run(job)
    job.subscribers.add(make_user("eve"))
    incident = make_incident(
        job, first_run=run, last_run=make_run(job), cause=make_incident(),
        acknowledged_at=utc_now(), acknowledged_by=make_user("ann"), kind="overdue",
    )  # fmt: skip
    for name in ("incident_change", "incident_live"):
        root.get(admin_url(name, incident))
        with CaptureQueriesContext(connection) as queries:
            assert root.get(admin_url(name, incident)).status_code == 200
        assert len(queries) <= 10, [query["sql"][:90] for query in queries]


def test_live_updates_follow_the_incident(root: Client) -> None:
    incident = make_incident(summary="<b>boom</b>")
    url = admin_url("incident_live", incident)
    first = root.get(url)
    assert "&lt;b&gt;boom" in first.json()["fragments"]["state"]
    headers = {"If-None-Match": first["ETag"]}
    assert root.get(url, headers=headers).status_code == 304
    Incident.objects.update(resolved_at=utc_now(), resolution="A run succeeded.")
    second = root.get(url, headers=headers).json()
    assert "A run succeeded." in second["fragments"]["timeline"]
    assert second["flags"] == {"open": False}


def test_reader_of_incidents_gets_no_links_to_other_pages(sign_in: SignIn) -> None:
    job = make_job(name="secret page")
    run = make_run(job)
    incident = make_incident(job, first_run=run, last_run=run)
    make_notification(incident, "1")
    html = sign_in("view_incident").get(admin_url("incident_change", incident)).content.decode()
    for link in ("/job/", "/run/", "/notification/"):
        assert f'href="/admin/chroniker{link}' not in html
    assert "secret page" in html and f"<dd>{run.pk}</dd>" in html


def test_dangerous_runbooks_are_no_links(root: Client) -> None:
    incident = make_incident(make_job(runbook_url="javascript:alert(1)"))
    assert (
        "javascript:alert" not in root.get(admin_url("incident_change", incident)).content.decode()
    )


def test_timeline_is_in_order() -> None:
    now = utc_now()
    incident = make_incident(
        opened_at=now - timedelta(hours=3), last_seen_at=now - timedelta(hours=1), occurrences=4,
        acknowledged_at=now - timedelta(hours=2), note="on it", resolved_at=now,
        resolution="A run succeeded.", summary="boom",
    )  # fmt: skip
    written = now - timedelta(hours=3)
    for key in range(2):
        moment = written + timedelta(milliseconds=key)
        make_notification(incident, str(key), created_at=moment)
    entries = build_timeline(incident, deliveries(incident))
    assert [(entry.text, entry.detail) for entry in entries] == [
        ("opened", "boom"),
        ("notification: opened", "to 2 recipients"),
        ("acknowledged by a deleted user", "on it"),
        ("last seen; seen 4 times in all", ""),
        ("resolved", "A run succeeded."),
    ]
