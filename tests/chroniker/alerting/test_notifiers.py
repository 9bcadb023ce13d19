"""Errors of notifiers do not block other notifications and leak no secret."""

from __future__ import annotations

from typing import Any

import pytest

from chroniker.models import Notification
from tests.factories import make_subscribed_job
from tests.support.mail_server import MailServer
from tests.support.timeline import timeline_of_failed_job

pytestmark = pytest.mark.django_db(transaction=True)


def test_missing_notifier_is_an_error_and_is_retried(
    mail_server: MailServer, settings: Any
) -> None:
    settings.CHRONIKER_NOTIFIERS = ["no.such.Channel"]
    timeline = timeline_of_failed_job()
    timeline.send()
    assert mail_server.event_names() == ["opened"]
    assert "No module" in Notification.objects.pending().get().last_error


@pytest.mark.parametrize("channel", ["ProgrammingErrorNotifier", "OperationalErrorNotifier"])
def test_database_error_of_a_notifier_does_not_block_others(
    mail_server: MailServer, settings: Any, channel: str
) -> None:
    settings.CHRONIKER_NOTIFIERS = [f"tests.support.notifiers.{channel}"]
    timeline = timeline_of_failed_job()
    timeline.advance(seconds=1).run_once(make_subscribed_job("bob"), "F")
    timeline.send()
    assert mail_server.event_names() == ["opened", "opened"]
    assert {run_once.attempts for run_once in Notification.objects.pending()} == {1}


def test_channel_error_leaks_no_secret(
    mail_server: MailServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHAT_TOKEN = "canary-of-the-chat-1234"
    settings.CHRONIKER_NOTIFIERS = ["tests.support.notifiers.SecretLeakingNotifier"]
    timeline = timeline_of_failed_job()
    timeline.send()
    error = Notification.objects.pending().get().last_error
    assert "401" in error
    assert "canary" not in error + caplog.text
