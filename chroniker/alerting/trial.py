"""Sending a test notification through each channel, at once."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from chroniker.enums import NotificationEvent
from chroniker.masking import Masker, site_secrets
from chroniker.models import Notification

from .channels import Channels
from .recipients import Recipient


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Whether a recipient was reached."""

    channel: str
    recipient: str
    error: str
    """Empty if it was sent."""


def send_test(recipients: Iterable[Recipient], now: datetime) -> Iterator[TrialResult]:
    """Send a test to each recipient. Nothing is stored and nothing is retried."""
    masker = Masker(site_secrets())
    with Channels() as channels:
        for channel, recipient in recipients:
            notification = Notification(
                event=NotificationEvent.TEST,
                channel=channel,
                recipient=recipient,
                key=secrets.token_hex(32),
                created_at=now,
            )
            error = ""
            try:
                channels.get(channel).send(notification)
            except Exception as problem:
                error = masker.mask_text(f"{type(problem).__name__}: {problem}")
            yield TrialResult(channel, recipient, error)
