"""Which notifications an incident or a run causes, and who receives them."""

from __future__ import annotations

from datetime import datetime, timedelta

from chroniker.enums import IncidentEnd, NotificationEvent
from chroniker.models import Incident, Job, Run

from .outbox import enqueue
from .recipients import MAIL, incident_recipients, subscriber_addresses

PROBLEM_EVENTS = (
    NotificationEvent.OPENED,
    NotificationEvent.WORSENED,
    NotificationEvent.REMINDER,
    NotificationEvent.FLAPPING,
)
"""Whoever received one of these is also notified of the end."""

_HOST_REMINDER_HOURS = 24


def notify(
    event: NotificationEvent,
    incident: Incident,
    now: datetime,
    run: Run | None = None,
    discriminator: str = "",
    *,
    announced: Incident | None = None,
) -> None:
    """Notify everyone concerned of an event of an incident.

    Nobody is notified of the same event twice, so it can be repeated for new subscribers.
    ``announced``: the incident by which others know of it already, if that is another one.
    """
    recipients = incident_recipients(incident)
    if event == NotificationEvent.REMINDER:
        # No reminder for those who have not received the notification before it.
        pending = set(incident.notifications.undelivered().values_list("channel", "recipient"))
        recipients = [recipient for recipient in recipients if recipient not in pending]
    enqueue(
        event,
        recipients,
        now,
        job=incident.job,
        incident=announced or incident,
        run=run or incident.last_run,
        discriminator=discriminator,
        facts=_facts(incident),
    )


def notify_opened_late(incident: Incident, now: datetime) -> None:
    """Send the opening that a maintenance window, flapping or the cause has held back.

    Changes the incident without saving it.
    """
    incident.notified_severity = incident.severity
    incident.remind_at = next_reminder_at(incident.job, now)
    notify(NotificationEvent.OPENED, incident, now)


def notify_ended(
    notified: Incident, ended: Incident, now: datetime, run: Run | None = None
) -> None:
    """Notify the recipients of ``notified`` of the end of ``ended``.

    The two differ after flapping, where only the first incident was announced.
    """
    sent = notified.notifications.filter(event__in=PROBLEM_EVENTS, dropped_at=None)
    recovered = ended.ended_by in ("", IncidentEnd.RECOVERED)
    enqueue(
        NotificationEvent.RESOLVED if recovered else NotificationEvent.CLOSED,
        list(sent.order_by().values_list("channel", "recipient").distinct()),
        now,
        job=notified.job,
        incident=notified,
        run=run or ended.last_run,
        facts=_facts(ended),
    )


def notify_success(job: Job, run: Run, now: datetime) -> None:
    """Email each subscriber about a successful run. The caller checks that this is wanted."""
    recipients = [(MAIL, address) for address in subscriber_addresses([job.pk])]
    enqueue(NotificationEvent.SUCCEEDED, recipients, now, job=job, run=run)


def next_reminder_at(job: Job | None, now: datetime) -> datetime | None:
    """When the next reminder is due; None if the job has none."""
    hours = job.reminder_hours if job else _HOST_REMINDER_HOURS
    return now + timedelta(hours=hours) if hours else None


def _facts(incident: Incident) -> dict[str, object]:
    """The state of the incident, which may change before the notification is sent."""
    return {
        "job": incident.job.name if incident.job else incident.job_name,
        "severity": incident.severity,
        "summary": incident.summary,
        "occurrences": incident.occurrences,
        "last_seen_at": incident.last_seen_at.isoformat(),
        "ended_by": incident.ended_by,
        "resolution": incident.resolution,
        "resolved_at": incident.resolved_at and incident.resolved_at.isoformat(),
    }
