"""The webhook: posted once, tried again, and believed only where the signature is right."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chroniker.alerting.webhook import InvalidSignature, Webhook, sign, verify
from chroniker.models import Notification
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer, WebhookReceiver
from tests.support.timeline import Timeline

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

SECRET = "a secret of the receiver"


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
    told = [verify(SECRET, headers, body) for headers, body in webhook_receiver.requests]
    assert [run_once["event"] for run_once in told] == ["opened", "resolved"]
    assert len(mail_server.mails) == 4
    opened, resolved = told
    assert opened["job"]["name"] == "till"
    assert opened["incident"]["severity"] == "warning"
    assert opened["incident"]["resolved_at"] is None
    assert resolved["incident"]["id"] == opened["incident"]["id"]
    assert resolved["incident"]["occurrences"] == 2
    assert resolved["incident"]["resolved_at"] is not None
    assert opened["run"]["error"] == "ValueError: boom"


def test_webhook_is_called_without_mail_subscribers(
    timeline: Timeline, webhook_receiver: WebhookReceiver
) -> None:
    job = make_subscribed_job(email_on_failure=False)
    timeline.run(job, "F")
    assert len(webhook_receiver.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_any_other_answer_is_tried_again(
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
    assert first[0]["X-Chroniker-Delivery"] == second[0]["X-Chroniker-Delivery"]


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


def test_secrets_are_masked(
    timeline: Timeline, webhook_receiver: WebhookReceiver, settings: Any
) -> None:
    settings.PAYMENT_API_KEY = "canary-of-settings-1"
    timeline.run(make_subscribed_job(), "F", error="ValueError: canary-of-settings-1")
    assert b"canary" not in webhook_receiver.requests[0][1]
    assert SECRET.encode() not in webhook_receiver.requests[0][1]


class TestVerify:
    def request(self) -> tuple[dict[str, str], bytes]:
        body = json.dumps({"event": "opened"}).encode()
        moment = str(int(time.time()))
        headers = {
            "x-chroniker-timestamp": moment,
            "x-chroniker-delivery": "1f",
            "x-chroniker-signature": sign(SECRET, moment, "1f", body),
        }
        return headers, body

    def test_takes_what_is_genuine(self) -> None:
        headers, body = self.request()
        assert verify(SECRET, headers, body) == {"event": "opened"}

    def test_refuses_another_body(self) -> None:
        headers, body = self.request()
        with pytest.raises(InvalidSignature):
            verify(SECRET, headers, body + b" ")

    def test_refuses_another_delivery_and_another_time(self) -> None:
        headers, body = self.request()
        for name, value in [("delivery", "2f"), ("timestamp", str(int(time.time()) + 1))]:
            with pytest.raises(InvalidSignature):
                verify(SECRET, {**headers, f"x-chroniker-{name}": value}, body)

    def test_rejects_shifted_field_boundary(self) -> None:
        body = b'{"seconds": 2.1}'
        moment = str(int(time.time()))
        signature = sign(SECRET, moment, "1f", body)
        for stamp, delivery, rest in [
            (moment, '1f.{"seconds": 2', b"1}"),
            (f"{moment}.1f", "", body),
        ]:
            headers = {
                "x-chroniker-timestamp": stamp,
                "x-chroniker-delivery": delivery,
                "x-chroniker-signature": signature,
            }
            with pytest.raises(InvalidSignature):
                verify(SECRET, headers, rest)

    def test_refuses_headers_that_are_no_text(self) -> None:
        headers, body = self.request()
        for name in headers:
            with pytest.raises(InvalidSignature):
                verify(SECRET, {**headers, name: "\udcff"}, body)

    def test_refuses_what_is_not_signed(self) -> None:
        _, body = self.request()
        for headers in ({}, {"X-Chroniker-Signature": "sha256="}, {"X-Chroniker-Signature": "é"}):
            with pytest.raises(InvalidSignature):
                verify(SECRET, headers, body)

    def test_refuses_another_secret_and_none(self) -> None:
        headers, body = self.request()
        for secret in ("", "another"):
            with pytest.raises(InvalidSignature):
                verify(secret, headers, body)

    def test_refuses_what_is_old_or_from_the_future(self) -> None:
        headers, body = self.request()
        for shift in (301, -301):
            with pytest.raises(InvalidSignature, match="long ago"):
                verify(SECRET, headers, body, now=time.time() + shift)

    def test_refuses_a_replay(self) -> None:
        headers, body = self.request()
        seen: set[str] = set()

        def saw(text: str) -> bool:
            known = text in seen
            seen.add(text)
            return known

        assert verify(SECRET, headers, body, seen=saw)
        with pytest.raises(InvalidSignature, match="before"):
            verify(SECRET, headers, body, seen=saw)


def test_a_webhook_needs_no_state() -> None:
    assert Webhook()
