"""Writing notifications to the outbox, in the transaction that they report on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256

from chroniker.db.alias import on_commit
from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Job, Notification, Run

from .holding import first_attempts
from .recipients import Recipient


class CommitFlag:
    """Set when this process has committed a notification, so that it is sent without delay."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """A notification was written and committed."""
        self._is_set = True

    def test_and_clear(self) -> bool:
        """Whether it was set since the last call."""
        was_set, self._is_set = self._is_set, False
        return was_set


committed = CommitFlag()


def notification_key(
    *,
    incident: int | None,
    run: int | None,
    event: str,
    discriminator: str,
    channel: str,
    recipient: str,
) -> str:
    """A hash of what identifies a notification."""
    parts = (incident, run, event, discriminator, channel, recipient.lower())
    return sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()


def enqueue(
    event: NotificationEvent,
    recipients: Iterable[Recipient],
    now: datetime,
    *,
    job: Job | None,
    incident: Incident | None = None,
    run: Run | None = None,
    discriminator: str = "",
    facts: Mapping[str, object] | None = None,
) -> int:
    """Write a notification for each recipient; return how many. Call it in a transaction.

    A notification that was written before is not written again. ``discriminator`` distinguishes
    notifications that are otherwise the same, such as two reminders.
    """
    chosen = list(recipients)
    severity = incident.severity if incident else ""
    times = first_attempts(chosen if incident else (), event, severity, now)
    rows = [
        Notification(
            job=job,
            incident=incident,
            run=run,
            event=event,
            channel=channel,
            recipient=recipient,
            key=notification_key(
                incident=incident.pk if incident else None,
                run=run.pk if run and not incident else None,
                event=event,
                discriminator=discriminator,
                channel=channel,
                recipient=recipient,
            ),
            facts=dict(facts or {}),
            created_at=now,
            next_attempt_at=times.get((channel, recipient), now),
        )
        for channel, recipient in chosen
    ]
    if rows:
        Notification.objects.bulk_create(rows, ignore_conflicts=True)
        on_commit(committed.set)
    return len(rows)
