"""Incidents, notifications, maintenance windows and digests in the admin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now as utc_now

from chroniker.models import Digest, Incident, Job, Maintenance, MaintenanceJob, Notification
from tests.factories import make_incident, make_job, make_notification
from tests.support.admin import post_action
from tests.support.types import SignIn

pytestmark = pytest.mark.django_db

PAGES = ("incident", "notification", "maintenance", "digest")


@pytest.mark.parametrize("model", PAGES)
def test_every_page_opens_and_escapes_job_names(
    root: Client, django_user_model: Any, model: str
) -> None:
    job = make_job(name="<script>alert(1)</script>")
    incident = make_incident(job)
    now = utc_now()
    rows: dict[str, Any] = {
        "incident": incident,
        "notification": make_notification(incident, "1"),
        "maintenance": Maintenance.objects.create(
            starts_at=now, ends_at=now + timedelta(hours=1), reason="<b>disks</b>"
        ),
        "digest": Digest.objects.create(user=django_user_model.objects.first()),
    }
    MaintenanceJob.objects.create(maintenance=rows["maintenance"], job=job)
    for path in (
        reverse(f"admin:chroniker_{model}_changelist"),
        reverse(f"admin:chroniker_{model}_change", args=[rows[model].pk]),
    ):
        answer = root.get(path)
        assert answer.status_code == 200
        text = answer.content.decode()
        assert "<script>alert" not in text and "<b>disks" not in text and "<b>boom" not in text


@pytest.mark.parametrize("state", ["open", "unacknowledged", "resolved"])
def test_incidents_are_filtered(root: Client, state: str) -> None:
    make_incident(make_job(name="open one"))
    make_incident(make_job(name="known one"), acknowledged_at=utc_now())
    make_incident(make_job(name="old one"), resolved_at=utc_now())
    text = root.get(reverse("admin:chroniker_incident_changelist"), {"state": state}).content
    shown = {name for name in ("open one", "known one", "old one") if name.encode() in text}
    assert (
        shown
        == {
            "open": {"open one", "known one"},
            "unacknowledged": {"open one"},
            "resolved": {"old one"},
        }[state]
    )


@pytest.mark.parametrize("model", ["incident", "notification"])
def test_scheduler_fields_are_read_only(root: Client, model: str) -> None:
    incident = make_incident()
    row: Any = incident if model == "incident" else make_notification(incident, "1")
    assert root.get(reverse(f"admin:chroniker_{model}_add")).status_code == 403
    page = reverse(f"admin:chroniker_{model}_change", args=[row.pk])
    assert root.post(page, {"summary": "other"}).status_code == 403


@pytest.mark.parametrize("state", ["waiting", "failed", "sent", "dropped"])
def test_notifications_are_filtered(root: Client, state: str) -> None:
    now, incident = utc_now(), make_incident()
    make_notification(incident, "1", attempts=1)
    make_notification(incident, "2", sent_at=now, next_attempt_at=None)
    make_notification(incident, "3", dropped_at=now, next_attempt_at=None)
    page = root.get(reverse("admin:chroniker_notification_changelist"), {"state": state})
    assert page.context["cl"].result_count == 1


def test_acknowledging_needs_permission_and_records_the_user(sign_in: SignIn) -> None:
    incident = make_incident()
    post_action(sign_in("view_incident"), "incident", "acknowledge", incident)
    incident.refresh_from_db()
    assert incident.acknowledged_at is None
    post_action(sign_in("view_incident", "change_incident"), "incident", "acknowledge", incident)
    incident.refresh_from_db()
    assert incident.acknowledged_at is not None
    assert incident.acknowledged_by == LogEntry.objects.get().user


def test_retry_includes_pending_and_dropped_but_not_sent(
    sign_in: SignIn,
) -> None:
    now, incident = utc_now(), make_incident()
    waiting = make_notification(incident, "1")
    dropped = make_notification(incident, "2", dropped_at=now, next_attempt_at=None)
    sent = make_notification(incident, "3", sent_at=now, next_attempt_at=None)
    flying = make_notification(incident, "4", claim_token="somebody")
    rows = (waiting, dropped, sent, flying)
    post_action(sign_in("view_notification"), "notification", "retry_now", *rows)
    assert not Notification.objects.due(utc_now()).exists()
    post_action(
        sign_in("view_notification", "change_notification"), "notification", "retry_now", *rows
    )
    assert {row.pk for row in Notification.objects.due(utc_now())} == {waiting.pk, dropped.pk}


class TestMuting:
    def test_muting_requires_permission_to_add_windows(self, sign_in: SignIn) -> None:
        job = make_job()
        post_action(sign_in("view_job", "change_job"), "job", "mute_hour", job)
        assert not Maintenance.objects.exists()
        post_action(sign_in("view_job", "add_maintenance"), "job", "mute_day", job)
        window = Maintenance.objects.get()
        assert window.ends_at - window.starts_at == timedelta(days=1)
        assert not window.pause and window.created_by is not None
        assert list(Job.objects.muted(utc_now())) == [job]
        assert b">muted<" in sign_in("view_job").get("/admin/chroniker/job/").content

    def test_muting_requires_csrf_and_post(self, sign_in: SignIn) -> None:
        job = make_job()
        client = sign_in("view_job", "add_maintenance", csrf=True)
        assert post_action(client, "job", "mute_hour", job).status_code == 403
        client.get(reverse("admin:chroniker_job_changelist"), {"action": "mute_hour"})
        assert not Maintenance.objects.exists()

    def test_unmute_affects_only_selected_jobs(self, sign_in: SignIn, root: Client) -> None:
        one, two, three = make_job(), make_job(), make_job()
        now = utc_now()
        post_action(root, "job", "mute_hour", one, two)
        post_action(root, "job", "mute_hour", three)
        incident = make_incident(one, muted=True)
        Incident.objects.update(next_review_at=now + timedelta(minutes=5))
        post_action(sign_in("view_job", "add_maintenance"), "job", "unmute", one, three)
        assert Job.objects.muted(utc_now()).count() == 3
        post_action(sign_in("view_job", "change_maintenance"), "job", "unmute", one, three)
        assert list(Job.objects.muted(utc_now())) == [two]
        incident.refresh_from_db()
        assert incident.next_review_at is not None and incident.next_review_at <= utc_now()

    def test_unmute_keeps_windows_for_all_jobs_and_reports_it(self, root: Client) -> None:
        job = make_job()
        now = utc_now()
        Maintenance.objects.create(starts_at=now, ends_at=now + timedelta(hours=1))
        page = post_action(root, "job", "unmute", job)
        assert b"still muted" in page.content
        assert Job.objects.muted(utc_now()).exists()


def test_window_form_records_its_creator(root: Client) -> None:
    job = make_job()
    now = utc_now()
    form = {
        "reason": "new disks",
        "starts_at_0": f"{now:%Y-%m-%d}", "starts_at_1": f"{now:%H:%M:%S}",
        "ends_at_0": f"{now + timedelta(days=1):%Y-%m-%d}", "ends_at_1": f"{now:%H:%M:%S}",
        "pause": "on", "recurrence": "", "timezone": "UTC",
        "entries-TOTAL_FORMS": "1", "entries-INITIAL_FORMS": "0",
        "entries-0-job": str(job.pk),
    }  # fmt: skip
    root.post(reverse("admin:chroniker_maintenance_add"), {**form, "entries-0-job": ""})
    answer = root.post(reverse("admin:chroniker_maintenance_add"), form)
    assert answer.status_code == 302, answer.content.decode()
    window = Maintenance.objects.filter(jobs=job).get()
    assert window.created_by is not None
    backwards = {**form, "ends_at_0": "2020-01-01"}
    page = root.post(reverse("admin:chroniker_maintenance_add"), backwards)
    assert b"end must be after the start" in page.content


def test_digest_with_an_unknown_zone_is_refused(root: Client, django_user_model: Any) -> None:
    user = django_user_model.objects.first()
    form = {"user": user.pk, "hour": 7, "timezone": "Mars/Olympus"}
    page = root.post(reverse("admin:chroniker_digest_add"), form)
    assert b"Unknown time zone" in page.content
    answer = root.post(reverse("admin:chroniker_digest_add"), {**form, "timezone": "Europe/Paris"})
    assert answer.status_code == 302
    assert Digest.objects.get().next_at is None


@pytest.mark.parametrize("model", PAGES)
def test_list_query_count_is_independent_of_row_count(
    root: Client, django_user_model: Any, model: str
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def add(number: int) -> None:
        now = utc_now()
        for _ in range(number):
            incident = make_incident()
            make_notification(incident, str(incident.pk))
            window = Maintenance.objects.create(starts_at=now, ends_at=now + timedelta(hours=1))
            MaintenanceJob.objects.create(maintenance=window, job=incident.job)
            user = django_user_model.objects.create_user(f"reader{incident.pk}")
            Digest.objects.create(user=user)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert root.get(reverse(f"admin:chroniker_{model}_changelist")).status_code == 200
        return len(captured)

    add(2)
    few = queries()
    add(10)
    assert queries() == few


def test_user_of_a_digest_is_chosen_by_name(root: Client, sign_in: SignIn) -> None:
    page = root.get(reverse("admin:chroniker_digest_add")).content.decode()
    assert "admin-autocomplete" in page
    blind = sign_in("add_digest").get(reverse("admin:chroniker_digest_add")).content.decode()
    assert "admin-autocomplete" not in blind
    assert "vForeignKeyRawIdAdminField" in blind
