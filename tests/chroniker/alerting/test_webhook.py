"""The webhook: posted once, retried after a failure, and signed as Standard Webhooks."""

from __future__ import annotations

import json
from typing import Any

import pytest
import standardwebhooks

from chroniker.alerting.notifications import notify, notify_success
from chroniker.alerting.signatures import verify
from chroniker.alerting.webhook import build_payload
from chroniker.enums import NotificationEvent
from chroniker.masking import Masker
from chroniker.models import Incident, Notification
from tests.factories import NOON, make_incident, make_run, make_subscribed_job
from tests.support.mail_server import MailServer, WebhookReceiver
from tests.support.timeline import Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgcmVjZWl2ZXI="


@pytest.fixture
def timeline(webhook_receiver: WebhookReceiver, mail_server: MailServer, settings: Any) -> Timeline:
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    settings.CHRONIKER_WEBHOOK_URL = webhook_receiver.url
    settings.CHRONIKER_WEBHOOK_SECRET = SECRET
    return Timeline()


def test_webhook_has_the_same_facts_as_mail(
    timeline: Timeline, webhook_receiver: WebhookReceiver, mail_server: MailServer
) -> None:
    job = make_subscribed_job("ann", "bob", name="till")
    timeline.run(job, "FFS")
    payloads: list[Any] = [
        verify(SECRET, headers, body) for headers, body in webhook_receiver.requests
    ]
    types = [payload["type"] for payload in payloads]
    assert types == ["incident.opened", "incident.resolved"]
    assert len(mail_server.mails) == 4
    opened, resolved = (payload["data"] for payload in payloads)
    assert opened["job"]["name"] == "till"
    assert opened["incident"]["severity"] == "warning"
    assert opened["incident"]["resolved_at"] is None
    assert resolved["incident"]["id"] == opened["incident"]["id"]
    assert resolved["incident"]["occurrences"] == 2
    assert resolved["incident"]["resolved_at"] is not None
    assert opened["run"]["error"] == "ValueError: boom"


def test_webhook_needs_no_mail_subscribers(
    timeline: Timeline, webhook_receiver: WebhookReceiver
) -> None:
    job = make_subscribed_job(email_on_failure=False)
    timeline.run(job, "F")
    assert len(webhook_receiver.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_other_statuses_are_retried(
    timeline: Timeline, webhook_receiver: WebhookReceiver, status: int
) -> None:
    webhook_receiver.statuses = [status]
    timeline.run(make_subscribed_job(), "F", every=0)
    assert len(webhook_receiver.requests) == 1
    assert str(status) in Notification.objects.pending().get().last_error
    timeline.advance(minutes=1).send()
    timeline.advance(minutes=1).send()
    first, second = webhook_receiver.requests
    assert first[1] == second[1]
    assert first[0]["webhook-id"] == second[0]["webhook-id"]


def test_unreachable_receiver_does_not_delay_mail(
    timeline: Timeline, mail_server: MailServer, settings: Any, free_port: int
) -> None:
    settings.CHRONIKER_WEBHOOK_URL = f"http://127.0.0.1:{free_port}/"
    timeline.run(make_subscribed_job(), "F")
    assert mail_server.event_names() == ["opened"]
    assert "ChannelDown" in Notification.objects.pending().get().last_error


def test_file_urls_are_rejected(timeline: Timeline, settings: Any) -> None:
    settings.CHRONIKER_WEBHOOK_URL = "file:///etc/passwd"
    timeline.run(make_subscribed_job(), "F")
    assert "http" in Notification.objects.pending().get().last_error


def test_any_library_for_standard_webhooks_verifies_requests(
    timeline: Timeline, webhook_receiver: WebhookReceiver
) -> None:
    timeline.run(make_subscribed_job(name="Grüße"), "F")
    ((headers, body),) = webhook_receiver.requests
    assert standardwebhooks.Webhook(SECRET).verify(body, headers) == json.loads(body)
    assert headers["Content-Type"] == "application/json"


def test_nothing_is_posted_without_a_valid_secret(
    timeline: Timeline, webhook_receiver: WebhookReceiver, settings: Any
) -> None:
    settings.CHRONIKER_WEBHOOK_SECRET = "a secret"
    timeline.run(make_subscribed_job(), "F")
    assert webhook_receiver.requests == []
    assert "InvalidSecret" in Notification.objects.pending().get().last_error


def test_secrets_are_masked(
    timeline: Timeline, webhook_receiver: WebhookReceiver, settings: Any
) -> None:
    settings.PAYMENT_API_KEY = "canary-of-settings-1"
    timeline.run(make_subscribed_job(), "F", error="ValueError: canary-of-settings-1")
    assert b"canary" not in webhook_receiver.requests[0][1]
    assert SECRET.encode() not in webhook_receiver.requests[0][1]


# --- the payload ---


def test_payload_of_an_incident(settings: Any) -> None:
    settings.CHRONIKER_SITE_URL = "https://example.com"
    job = make_subscribed_job(name="till", runbook_url="https://wiki.example.com/till")
    incident = make_incident(
        job, host="web1", severity="warning", kind="condition", summary="80 %", occurrences=3,
        opened_at=NOON, last_seen_at=NOON,
    )  # fmt: skip
    notify(NotificationEvent.OPENED, incident, NOON)
    Incident.objects.update(summary="99 %", severity="critical", occurrences=4)
    payload = build_payload(Notification.objects.get(), Masker())
    admin = "https://example.com/admin/chroniker"
    assert payload == {
        "type": "incident.opened",
        "timestamp": NOON.isoformat(),
        "data": {
            "job": {
                "id": job.pk, "name": "till", "team": "", "severity": "warning",
                "url": f"{admin}/job/{job.pk}/change/",
            },
            "runbook_url": "https://wiki.example.com/till",
            "incident": {
                "id": incident.pk, "kind": "condition", "host": "web1", "severity": "warning",
                "summary": "80 %", "opened_at": NOON.isoformat(), "resolved_at": None,
                "team": "", "job_name": "till", "ended_by": "", "resolution": "",
                "occurrences": 3,
                "url": f"{admin}/incident/{incident.pk}/change/",
            },
            "run": None,
        },
    }  # fmt: skip


def test_payload_of_a_run() -> None:
    job = make_subscribed_job()
    run = make_run(
        job, status="failed", ran_on="web1", started_at=NOON, duration_seconds=1.5, exit_code=3,
        error="x" * 3000,
    )  # fmt: skip
    notify_success(job, run, NOON)
    payload: Any = build_payload(Notification.objects.get(), Masker())
    assert (payload["type"], payload["data"]["incident"]) == ("run.succeeded", None)
    assert payload["data"]["run"] == {
        "id": run.pk, "status": "failed", "host": "web1", "started_at": NOON.isoformat(),
        "duration_seconds": 1.5, "exit_code": 3, "error": "x" * 2000, "url": "",
    }  # fmt: skip


def test_payload_of_a_run_that_never_started_and_of_a_deleted_job() -> None:
    job = make_subscribed_job()
    notify_success(job, make_run(job, started_at=None), NOON)
    Notification.objects.update(job=None)
    payload: Any = build_payload(Notification.objects.get(), Masker())
    assert payload["data"]["run"]["started_at"] is None
    assert payload["data"]["job"] is None


def test_every_text_of_the_payload_is_masked() -> None:
    secret = "canary-of-settings-1"
    job = make_subscribed_job(name=secret)
    incident = make_incident(
        job, summary=secret, resolution=secret, last_run=make_run(job, error=secret)
    )
    notify(NotificationEvent.OPENED, incident, NOON)
    payload = build_payload(Notification.objects.get(), Masker([secret]))
    assert secret not in json.dumps(payload)
    assert json.dumps(payload).count("********") == 5
