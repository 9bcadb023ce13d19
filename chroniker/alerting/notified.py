"""Who was notified of an incident: when, through which channel, and who was not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.models import Incident, Notification

from .recipients import incident_recipients


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification to one recipient."""

    event: str
    channel: str
    recipient: str
    sent_at: datetime | None
    dropped_at: datetime | None
    last_error: str
    bundled: bool
    """It was sent in one message with others."""

    @property
    def waiting(self) -> bool:
        """Whether it is neither sent nor dropped."""
        return self.sent_at is None and self.dropped_at is None


def deliveries(incident: Incident) -> list[Delivery]:
    """Every notification of an incident, or of its cause if it was folded, in their order."""
    source = incident.cause_id or incident.pk
    return [
        Delivery(
            event=str(row.get_event_display()),
            channel=row.channel,
            recipient=row.recipient or row.channel.rpartition(".")[2],
            sent_at=row.sent_at,
            dropped_at=row.dropped_at,
            last_error=row.last_error,
            bundled=row.bundle_id is not None,
        )
        for row in Notification.objects.filter(incident=source).order_by("pk")
    ]


def summarize(incident: Incident) -> str:
    """Who knows of an incident, in one sentence."""
    if incident.muted:
        return _("Nobody: a maintenance window mutes it.")
    rows = deliveries(incident)
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
    if incident.is_open and not incident_recipients(incident):
        return prefix + _("Nobody: the job has no subscribers, and there is no other channel.")
    return prefix + _("Nobody.")
