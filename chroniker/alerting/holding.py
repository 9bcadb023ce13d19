"""When a notification may be sent: at once, or a little later together with others.

The first one for a recipient is sent at once. Those that follow within seconds wait for a moment,
so that many problems with one cause become one message (see :mod:`.bundles`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import Max, Min, Q

from chroniker.enums import NotificationEvent, Severity
from chroniker.models import Notification

from .recipients import APPRISE, MAIL, Recipient

HOLD = timedelta(seconds=30)
"""How long a notification waits that follows another one within this time."""
STORM = timedelta(minutes=5)
"""The period in which notifications are counted, and the least time between two bundles."""
BUNDLED_CHANNELS = (MAIL, APPRISE)
"""Channels that people read. Programs, such as the receiver of a webhook, get each notification."""
BUNDLED_EVENTS = (
    NotificationEvent.OPENED,
    NotificationEvent.WORSENED,
    NotificationEvent.REMINDER,
    NotificationEvent.RESOLVED,
    NotificationEvent.CLOSED,
    NotificationEvent.FLAPPING,
)


def first_attempts(
    recipients: Collection[Recipient], event: NotificationEvent, severity: str, now: datetime
) -> dict[Recipient, datetime]:
    """When the first attempt to send ``event`` to each recipient is made.

    During a storm, a notification waits for the next bundle. One about a critical incident does
    not wait that long.
    """
    readers = {address for channel, address in recipients if channel in BUNDLED_CHANNELS}
    if event not in BUNDLED_EVENTS or not readers:
        return dict.fromkeys(recipients, now)
    waiting = Q(next_attempt_at__gt=now, attempts=0, claim_token="")
    rows = (
        Notification.objects.filter(
            recipient__in=readers,
            channel__in=BUNDLED_CHANNELS,
            event=event,
            created_at__gt=now - STORM,
            incident__isnull=False,
        )
        .order_by()
        .values("channel", "recipient")
        .annotate(
            newest=Max("created_at"),
            held_until=Min("next_attempt_at", filter=waiting),
            bundled_at=Max("bundle__created_at"),
        )
    )
    times = dict.fromkeys(recipients, now)
    for row in rows:
        recipient = row["channel"], row["recipient"]
        if recipient not in times:
            continue
        if row["bundled_at"] is not None and severity != Severity.CRITICAL:
            times[recipient] = max(now, row["bundled_at"] + STORM)
        elif row["newest"] > now - HOLD:
            times[recipient] = min(row["held_until"] or now + HOLD, now + HOLD)
    return times
