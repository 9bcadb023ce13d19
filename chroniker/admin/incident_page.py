"""The page of an incident: what to do, what happened, and who was notified."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from chroniker.alerting.links import runbook_link
from chroniker.models import Incident, Notification

from . import formats
from .actions import acknowledge_with_note

if TYPE_CHECKING:
    from .incidents import IncidentAdmin

MAX_NOTE = 2000
_MAX_NOTIFICATIONS = 200


@dataclass(frozen=True, slots=True)
class IncidentViews:
    """More views of incidents."""

    model_admin: IncidentAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap = admin.admin_site.admin_view
        return [
            path(
                "<int:pk>/acknowledge/",
                wrap(require_POST(self.acknowledge)),
                name=admin.view_name("acknowledge"),
            )
        ]

    def acknowledge(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Acknowledge an incident, or change its note."""
        admin = self.model_admin
        incident = admin.get_visible(request, pk)
        if not admin.has_acknowledge_permission(request):
            raise PermissionDenied
        note = request.POST.get("note", "").strip()[:MAX_NOTE]
        user = request.user.pk
        if acknowledge_with_note(incident, note=note, now=utc_now(), user_id=user):
            text = _("Acknowledged. No more reminders are sent unless it becomes worse.")
            admin.message_user(request, text, messages.SUCCESS)
        else:
            admin.message_user(request, _("The incident has already ended."), messages.WARNING)
        return HttpResponseRedirect(admin.admin_url(admin.view_name("change"), pk))


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened."""

    at: datetime
    text: str
    detail: str = ""

    @property
    def when(self) -> str:
        """The time as HTML."""
        return formats.time_html(self.at)


def incident_context(
    admin: IncidentAdmin, request: HttpRequest, incident: Incident
) -> dict[str, object]:
    """What the template shows above the fields."""
    user = request.user
    may_view_notifications = user.has_perm("chroniker.view_notification")
    notifications = list(
        Notification.objects.filter(incident=incident).order_by("pk")[:_MAX_NOTIFICATIONS]
    )
    job = incident.job
    return {
        "incident": incident,
        "state_badge": admin.state(incident),
        "badge": formats.severity_badge(incident.severity, incident.get_severity_display()),
        "opened": formats.relative_time(incident.opened_at),
        "job_url": admin.admin_url("chroniker_job_page", job.pk)
        if job and user.has_perm("chroniker.view_job")
        else "",
        "runbook": runbook_link(job),
        "may_view_runs": user.has_perm("chroniker.view_run"),
        "may_acknowledge": incident.is_open and admin.has_acknowledge_permission(request),
        "acknowledge_url": admin.admin_url(admin.view_name("acknowledge"), incident.pk),
        "max_note": MAX_NOTE,
        "timeline": build_timeline(incident, notifications),
        "may_view_notifications": may_view_notifications,
        "notifications": [_notification_row(one) for one in notifications],
        "why_nobody": "" if notifications else _why_nobody(incident),
    }


def build_timeline(incident: Incident, notifications: list[Notification]) -> list[TimelineEntry]:
    """What happened, in order."""
    entries = [TimelineEntry(incident.opened_at, _("opened"), incident.summary)]
    written: dict[tuple[datetime, str], int] = {}
    for one in notifications:
        key = one.created_at, str(one.get_event_display())
        written[key] = written.get(key, 0) + 1
    entries += [
        TimelineEntry(at, _("notification: %(event)s") % {"event": event},
                      _("to %(number)d recipients") % {"number": number} if number > 1 else "")
        for (at, event), number in written.items()
    ]  # fmt: skip
    if incident.acknowledged_at is not None:
        by = str(incident.acknowledged_by or _("a deleted user"))
        text = _("acknowledged by %(user)s") % {"user": by}
        entries.append(TimelineEntry(incident.acknowledged_at, text, incident.note))
    if incident.occurrences > 1:
        text = _("last seen; seen %(number)d times in all") % {"number": incident.occurrences}
        entries.append(TimelineEntry(incident.last_seen_at, text))
    if incident.resolved_at is not None:
        entries.append(TimelineEntry(incident.resolved_at, _("resolved"), incident.resolution))
    return sorted(entries, key=lambda entry: entry.at)


def _notification_row(notification: Notification) -> dict[str, object]:
    if notification.sent_at is not None:
        state, when = formats.badge("succeeded", _("sent")), notification.sent_at
    elif notification.dropped_at is not None:
        state, when = formats.badge("missed", _("dropped")), notification.dropped_at
    else:
        name = "failed" if notification.attempts else "due"
        state, when = formats.badge(name, _("waiting")), notification.created_at
    return {"notification": notification, "state": state, "when": formats.time_html(when)}


def _why_nobody(incident: Incident) -> str:
    if incident.muted:
        return _("Nobody was notified: a maintenance window mutes the job.")
    if incident.flapping:
        return _("Nobody was notified: it opens and closes repeatedly.")
    job = incident.job
    if job and (job.subscribers.exists() or job.subscriber_groups.exists()):
        return _("No notification has been written for it.")
    return _(
        "Nobody was notified: nobody is subscribed to the job, and no channel is configured. "
        "Subscribe somebody in the form of the job."
    )
