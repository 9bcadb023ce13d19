"""Whether a notification that is due should still be sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Notification

OPENING_WAIT = timedelta(seconds=15)
"""How long an end waits, at least, for the notification of its incident."""

_OPENINGS = (NotificationEvent.OPENED, NotificationEvent.FLAPPING)
_ENDS = (NotificationEvent.RESOLVED, NotificationEvent.CLOSED)
_OBSOLETE_ONCE_RESOLVED = (NotificationEvent.REMINDER, NotificationEvent.WORSENED)


@dataclass(frozen=True, slots=True)
class Postpone:
    """Send it later."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Drop:
    """Never send it."""

    reason: str


def check_relevance(notification: Notification, now: datetime) -> Postpone | Drop | None:
    """Whether to postpone or drop a notification; None means that it should be sent now."""
    incident = notification.incident
    if incident is None:
        return None
    event = notification.event
    if event in _ENDS:
        return _check_opening(notification, incident, now)
    if event in _OBSOLETE_ONCE_RESOLVED and incident.resolved_at is not None:
        return Drop("The incident was resolved before this could be sent.")
    if event == NotificationEvent.REMINDER and incident.acknowledged_at is not None:
        return Drop("The incident was acknowledged before this could be sent.")
    return None


def _check_opening(
    notification: Notification, incident: Incident, now: datetime
) -> Postpone | Drop | None:
    """An end is sent after an earlier notification of its incident, and never without one."""
    earlier = Notification.objects.filter(
        incident=incident, channel=notification.channel, recipient=notification.recipient
    ).exclude(event__in=_ENDS)
    if earlier.filter(sent_at__isnull=False).exists():
        return None
    waiting = earlier.undelivered().filter(event__in=_OPENINGS).select_related("bundle")
    opening = waiting.order_by("pk").last()
    if opening is not None and opening.bundle is not None:
        opening = opening.bundle
    if opening is None or opening.next_attempt_at is None:
        return Drop("The opening of the incident was never sent.")
    soon = now + OPENING_WAIT
    # Not due at once: many waiting recoveries would otherwise delay the openings they wait for.
    return Postpone(soon if opening.claim_token else max(soon, opening.next_attempt_at))
