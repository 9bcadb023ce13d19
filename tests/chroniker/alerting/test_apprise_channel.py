"""The Apprise channel: teams, labels instead of secrets, a real receiver."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from chroniker.alerting.apprise_channel import AppriseChannel, NotAccepted
from chroniker.alerting.recipients import apprise_label, apprise_urls
from chroniker.models import Notification
from tests.factories import make_job
from tests.support.mail_server import WebhookReceiver
from tests.support.timeline import START, Timeline

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.one_database,
    # Apprise imports it where it exists.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

SECRET = "sup3rs3cret"


def url_of(receiver: WebhookReceiver, name: str = "hook") -> str:
    return receiver.url.replace("http://", f"json://user:{SECRET}@").replace("/hook", f"/{name}")


def bodies(receiver: WebhookReceiver) -> list[dict[str, Any]]:
    return [json.loads(body) for _, body in receiver.requests]


def test_openings_and_ends_reach_the_url(settings: Any, webhook_receiver: WebhookReceiver) -> None:
    settings.CHRONIKER_APPRISE_URLS = [url_of(webhook_receiver)]
    job, timeline = make_job(name="import", alert_severity="critical"), Timeline()
    timeline.run(job, "FS")
    opened, resolved = bodies(webhook_receiver)
    assert (opened["title"], opened["type"]) == (
        "Critical: import failed: ValueError: boom", "failure",
    )  # fmt: skip
    assert "Since:" in opened["message"]
    assert (resolved["title"], resolved["type"]) == (
        "Recovered: import. A run succeeded.",
        "success",
    )
    assert SECRET not in str(list(Notification.objects.values()))


def test_urls_of_a_team_get_its_jobs_only(settings: Any, webhook_receiver: WebhookReceiver) -> None:
    settings.CHRONIKER_APPRISE_URLS = {
        "": [url_of(webhook_receiver, "all")],
        "billing": url_of(webhook_receiver, "billing"),
    }
    timeline = Timeline()
    timeline.run(make_job(name="invoices", team="billing"), "F")
    timeline.run(make_job(name="cache", team="web"), "F")
    titles = [body["title"] for body in bodies(webhook_receiver)]
    assert len([title for title in titles if "invoices" in title]) == 2
    assert len([title for title in titles if "cache" in title]) == 1


def test_refused_message_is_retried_and_the_error_has_no_secret(
    settings: Any, webhook_receiver: WebhookReceiver
) -> None:
    settings.CHRONIKER_APPRISE_URLS = [url_of(webhook_receiver)]
    webhook_receiver.statuses = [500]
    timeline = Timeline()
    timeline.run(make_job(), "F")
    notification = Notification.objects.get()
    assert "NotAccepted: json " in notification.last_error and notification.sent_at is None
    assert SECRET not in notification.last_error
    timeline.advance(minutes=5).send()
    notification.refresh_from_db()
    assert notification.sent_at is not None


def test_what_apprise_logs_of_the_service_is_not_stored(
    settings: Any, webhook_receiver: WebhookReceiver, caplog: Any
) -> None:
    token = "TIiajkdnlazkcOXrIdevi7FQ"
    settings.CHRONIKER_APPRISE_URLS = [url_of(webhook_receiver, f"hook/{token}")]
    webhook_receiver.statuses = [500]
    caplog.set_level(logging.DEBUG, logger="apprise")
    Timeline().run(make_job(), "F")
    assert token in caplog.text, "Apprise logs it"
    notification = Notification.objects.get()
    assert "NotAccepted: json " in notification.last_error
    assert "URL" not in notification.last_error and token not in notification.last_error


def test_url_that_was_removed_or_is_wrong_is_an_error(settings: Any) -> None:
    with pytest.raises(NotAccepted, match="is not in CHRONIKER_APPRISE_URLS"):
        AppriseChannel().send(Notification(event="test", recipient="json 1234", created_at=START))
    settings.CHRONIKER_APPRISE_URLS = ["nonsense://"]
    label = apprise_label("nonsense://")
    with pytest.raises(NotAccepted, match="does not accept"):
        AppriseChannel().send(Notification(event="test", recipient=label, created_at=START))


def test_labels_name_the_service_and_not_the_secret() -> None:
    assert apprise_label("slack://token/channel").startswith("slack ")
    assert "token" not in apprise_label("slack://token/channel")
    assert apprise_label("slack://a") != apprise_label("slack://b")


@pytest.mark.parametrize("configured", [(), [], {}])
def test_nothing_is_configured_by_default(settings: Any, configured: Any) -> None:
    settings.CHRONIKER_APPRISE_URLS = configured
    assert apprise_urls(["billing"]) == {}
