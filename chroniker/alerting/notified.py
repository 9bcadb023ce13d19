"""Who was notified of an incident: when, through which channel, and who was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.models import Incident, Notification

from .recipients import incident_recipients


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification to one recipient."""

    pk: int
    """The key of the notification."""
    event: str
    channel: str
    recipient: str
    created_at: datetime
    sent_at: datetime | None
    dropped_at: datetime | None
    attempts: int
    last_error: str
    bundled: bool
    """It was sent in one message with others."""

    @property
    def waiting(self) -> bool:
        """Whether it is neither sent nor dropped."""
        return self.sent_at is None and self.dropped_at is None


MAX_DELIVERIES = 500
"""Notifications of an incident that are read."""


def deliveries(incident: Incident) -> list[Delivery]:
    """The newest notifications of an incident, or of its cause if it was folded, oldest first."""
    rows = Notification.objects.filter(incident=incident.cause_id or incident.pk).order_by("-pk")
    return [
        Delivery(
            pk=row.pk,
            event=str(row.get_event_display()),
            channel=row.channel,
            recipient=row.recipient or row.channel.rpartition(".")[2],
            created_at=row.created_at,
            sent_at=row.sent_at,
            dropped_at=row.dropped_at,
            attempts=row.attempts,
            last_error=row.last_error,
            bundled=row.bundle_id is not None,
        )
        for row in reversed(rows.defer("facts")[:MAX_DELIVERIES])
    ]


def summarize(incident: Incident, rows: Sequence[Delivery] | None = None) -> str:
    """Who knows of an incident, in one sentence. ``rows``: its ``deliveries``, if known."""
    if rows is None:
        rows = deliveries(incident)
    if incident.muted and not rows:
        return _("Nobody: a maintenance window mutes it.")
    sent = {(row.channel, row.recipient) for row in rows if row.sent_at is not None}
    waiting = {(row.channel, row.recipient) for row in rows if row.waiting} - sent
    if incident.cause_id is not None:
        prefix = _("Only of its cause:") + " "
    elif incident.flapping and not rows:
        return _("Nobody: it is flapping, and those concerned know that.")
    else:
        prefix = ""
    if sent or waiting:
        texts = []
        if sent:
            texts.append(
                ngettext("%d recipient notified", "%d recipients notified", len(sent)) % len(sent)
            )
        if waiting:
            texts.append(ngettext("%d waiting", "%d waiting", len(waiting)) % len(waiting))
        return prefix + ", ".join(texts) + "."
    if rows:
        return prefix + _("Nobody: no message could be delivered.")
    if incident.is_open and not incident_recipients(incident.cause or incident):
        return prefix + _nobody_to_notify(incident.cause or incident)
    return prefix + _("Nobody.")


def _nobody_to_notify(incident: Incident) -> str:
    """Why an incident without recipients has none."""
    job = incident.job
    if job is None:
        return _("Nobody: no channel is configured that would be notified of it.")
    if not job.email_on_failure:
        return _("Nobody: the job sends no email on failure, and there is no other channel.")
    if job.subscribers.exists() or job.subscriber_groups.exists():
        return _(
            "Nobody: no subscriber of the job can be notified. They have no email address, are "
            "inactive, or receive only the digest."
        )
    return _("Nobody: the job has no subscribers, and there is no other channel.")
