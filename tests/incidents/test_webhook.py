"""The webhook: posted once, tried again, and believed only where the signature is right."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from chroniker.alerting.webhook import SignatureRefused, Webhook, sign, verify
from chroniker.models import Notification
from tests.incidents.history import Story, watched_job
from tests.incidents.post import PostOffice, WebHook

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.one_database]

SECRET = "a secret of the receiver"


@pytest.fixture
def story(hook: WebHook, office: PostOffice, settings: Any) -> Story:
    settings.CHRONIKER_NOTIFIERS = ["chroniker.alerting.webhook.Webhook"]
    settings.CHRONIKER_WEBHOOK_URL = hook.url
    settings.CHRONIKER_WEBHOOK_SECRET = SECRET
    return Story()


def test_it_is_told_what_mail_tells(story: Story, hook: WebHook, office: PostOffice) -> None:
    job = watched_job("ann", "bob", name="till")
    story.run(job, "FFS")
    told = [verify(SECRET, headers, body) for headers, body in hook.requests]
    assert [one["event"] for one in told] == ["opened", "resolved"]
    assert len(office.mails) == 4
    opened, resolved = told
    assert opened["job"]["name"] == "till"
    assert opened["incident"]["severity"] == "warning"
    assert opened["incident"]["resolved_at"] is None
    assert resolved["incident"]["id"] == opened["incident"]["id"]
    assert resolved["incident"]["occurrences"] == 2
    assert resolved["incident"]["resolved_at"] is not None
    assert opened["run"]["error"] == "ValueError: boom"


def test_it_is_told_where_nobody_wants_mail(story: Story, hook: WebHook) -> None:
    job = watched_job(email_on_failure=False)
    story.run(job, "F")
    assert len(hook.requests) == 1


@pytest.mark.parametrize("status", [500, 404, 302, 307])
def test_any_other_answer_is_tried_again(story: Story, hook: WebHook, status: int) -> None:
    hook.statuses = [status]
    story.run(watched_job(), "F", every=0)
    assert len(hook.requests) == 1
    assert str(status) in Notification.objects.pending().get().last_error
    story.later(minutes=1).send()
    story.later(minutes=1).send()
    first, second = hook.requests
    assert first[1] == second[1]
    assert first[0]["X-Chroniker-Delivery"] == second[0]["X-Chroniker-Delivery"]


def test_a_receiver_that_is_away_holds_no_mail_back(
    story: Story, office: PostOffice, settings: Any, free_port: int
) -> None:
    settings.CHRONIKER_WEBHOOK_URL = f"http://127.0.0.1:{free_port}/"
    story.run(watched_job(), "F")
    assert office.words() == ["opened"]
    assert "ChannelDown" in Notification.objects.pending().get().last_error


def test_files_are_no_receivers(story: Story, settings: Any) -> None:
    settings.CHRONIKER_WEBHOOK_URL = "file:///etc/passwd"
    story.run(watched_job(), "F")
    assert "http" in Notification.objects.pending().get().last_error


def test_secrets_are_masked(story: Story, hook: WebHook, settings: Any) -> None:
    settings.PAYMENT_API_KEY = "canary-of-settings-1"
    story.run(watched_job(), "F", error="ValueError: canary-of-settings-1")
    assert b"canary" not in hook.requests[0][1]
    assert SECRET.encode() not in hook.requests[0][1]


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
        with pytest.raises(SignatureRefused):
            verify(SECRET, headers, body + b" ")

    def test_refuses_another_delivery_and_another_time(self) -> None:
        headers, body = self.request()
        for name, value in [("delivery", "2f"), ("timestamp", str(int(time.time()) + 1))]:
            with pytest.raises(SignatureRefused):
                verify(SECRET, {**headers, f"x-chroniker-{name}": value}, body)

    def test_refuses_a_border_that_was_moved(self) -> None:
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
            with pytest.raises(SignatureRefused):
                verify(SECRET, headers, rest)

    def test_refuses_headers_that_are_no_text(self) -> None:
        headers, body = self.request()
        for name in headers:
            with pytest.raises(SignatureRefused):
                verify(SECRET, {**headers, name: "\udcff"}, body)

    def test_refuses_what_is_not_signed(self) -> None:
        _, body = self.request()
        for headers in ({}, {"X-Chroniker-Signature": "sha256="}, {"X-Chroniker-Signature": "é"}):
            with pytest.raises(SignatureRefused):
                verify(SECRET, headers, body)

    def test_refuses_another_secret_and_none(self) -> None:
        headers, body = self.request()
        for secret in ("", "another"):
            with pytest.raises(SignatureRefused):
                verify(secret, headers, body)

    def test_refuses_what_is_old_or_from_the_future(self) -> None:
        headers, body = self.request()
        for shift in (301, -301):
            with pytest.raises(SignatureRefused, match="long ago"):
                verify(SECRET, headers, body, now=time.time() + shift)

    def test_refuses_a_replay(self) -> None:
        headers, body = self.request()
        seen: set[str] = set()

        def saw(text: str) -> bool:
            known = text in seen
            seen.add(text)
            return known

        assert verify(SECRET, headers, body, seen=saw)
        with pytest.raises(SignatureRefused, match="before"):
            verify(SECRET, headers, body, seen=saw)


def test_a_webhook_needs_no_state() -> None:
    assert Webhook()
