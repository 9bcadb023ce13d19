"""Receivers of notifications."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mail_server import (
    WebhookReceiver,
    run_webhook_receiver,
)


@pytest.fixture
def webhook_receiver() -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as webhook_receiver:
        yield webhook_receiver
