"""What a scheduler sends in addition to running jobs."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.utils.timezone import now

from chroniker.engine.messenger import Messenger
from chroniker.models import Notification
from tests.factories import make_incident, make_notification
from tests.support.processes import wait_until
from tests.support.recording_server import RecordingServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.no_leftovers]


@pytest.fixture(autouse=True)
def _own_runtime_dir(own_runtime_dir: None) -> None: ...


def make_messenger() -> Messenger:
    return Messenger(now, list)


def test_messenger_that_was_never_needed_does_nothing() -> None:
    messenger = make_messenger()
    assert not messenger.busy and not messenger.started and messenger.can_fork()
    messenger.poll()
    messenger.close()
    messenger.wait_for_ping()
    started = time.monotonic()
    messenger.wait(0.02)
    assert time.monotonic() - started >= 0.02


def test_request_without_due_notifications_starts_no_process() -> None:
    messenger = make_messenger()
    messenger.send_notifications()
    assert messenger.busy and messenger.started
    messenger.poll()
    assert not messenger.busy and messenger.started
    messenger.close()


def test_due_notifications_are_sent_by_a_process() -> None:
    notification = make_notification(
        make_incident(), "1", next_attempt_at=now() - timedelta(minutes=1)
    )
    messenger = make_messenger()
    messenger.send_notifications()
    messenger.poll()
    assert messenger.busy

    def done() -> bool:
        messenger.wait(1)
        messenger.poll()
        return not messenger.busy

    wait_until(done)
    messenger.close()
    notification.refresh_from_db()
    assert notification.attempts == 1 or notification.sent_at is not None
    assert mail.outbox == [], "not by this process"


def test_closing_ends_the_process() -> None:
    make_notification(make_incident(), "1", next_attempt_at=now() - timedelta(minutes=1))
    messenger = make_messenger()
    messenger.send_notifications()
    messenger.poll()
    assert messenger.busy
    messenger.close()
    assert not messenger.busy


def test_nothing_is_forked_while_the_deadman_url_is_fetched(
    recording_server: RecordingServer, settings: Any
) -> None:
    settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/alive"
    recording_server.mode = "hang"
    messenger = make_messenger()
    messenger.ping_deadman_url()
    wait_until(lambda: recording_server.requests)
    assert not messenger.can_fork()
    make_notification(make_incident(), "1", next_attempt_at=now() - timedelta(minutes=1))
    messenger.send_notifications()
    messenger.poll()
    assert messenger.busy, "it waits"
    assert Notification.objects.get().claim_token == ""
    recording_server.released.set()
    messenger.wait_for_ping()
    assert messenger.can_fork()
    assert recording_server.requests == [("GET", "/alive")]
    messenger.close()


def test_each_ping_fetches_the_url_again(recording_server: RecordingServer, settings: Any) -> None:
    settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/alive"
    messenger = make_messenger()
    for number in (1, 2):
        messenger.ping_deadman_url()
        messenger.wait_for_ping()
        assert len(recording_server.requests) == number
