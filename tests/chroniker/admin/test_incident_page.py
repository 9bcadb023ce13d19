"""The page of an incident: acknowledge with a note, timeline, who was notified."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.admin.incident_page import MAX_NOTE, build_timeline
from chroniker.models import Incident
from tests.factories import make_incident, make_job, make_notification
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
    other = sign_in("view_incident", "change_incident")
    other.post(url, {"note": "x" * (MAX_NOTE + 10)})
    changed = Incident.objects.get()
    assert changed.acknowledged_at == first
    assert changed.acknowledged_by == incident.acknowledged_by
    assert changed.note == "x" * MAX_NOTE


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


def test_nobody_notified_says_why(root: Client) -> None:
    for fields, words in (
        ({}, "nobody is subscribed to the job"),
        ({"muted": True}, "a maintenance window mutes the job"),
        ({"flapping": True}, "it opens and closes repeatedly"),
    ):
        incident = make_incident(**fields)
        assert words in visible_text(root.get(admin_url("incident_change", incident)))


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
    for key in ("1", "2"):
        make_notification(incident, key, created_at=now - timedelta(hours=3))
    notifications = list(incident.notifications.order_by("pk"))
    entries = build_timeline(incident, notifications)
    assert [(entry.text, entry.detail) for entry in entries] == [
        ("opened", "boom"),
        ("notification: opened", "to 2 recipients"),
        ("acknowledged by a deleted user", "on it"),
        ("last seen; seen 4 times in all", ""),
        ("resolved", "A run succeeded."),
    ]
