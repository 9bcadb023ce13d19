"""The page of an incident: what to do, what happened, and who was notified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.alerting.links import runbook_link
from chroniker.alerting.notified import Delivery, deliveries, summarize
from chroniker.alerting.snapshot_text import SnapshotText
from chroniker.alerting.wording import advice
from chroniker.enums import IncidentEnd, IncidentKind
from chroniker.masking import Masker, site_secrets
from chroniker.models import Incident

from . import formats

if TYPE_CHECKING:
    from .incidents import IncidentAdmin

MAX_NOTE = 2000
_LISTED = 200
"""Notifications in the table, the newest ones."""
_TOGETHER = timedelta(minutes=1)
"""Notifications of one event that are written within this time are one entry of the timeline."""

Fact = tuple[str, SafeString | str]


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
    """What the template shows."""
    user = request.user
    return {
        **changing_context(admin, request, incident),
        "may_acknowledge": incident.is_open and admin.has_acknowledge_permission(request),
        "may_delete": admin.has_delete_permission(request, incident),
        "max_note": MAX_NOTE,
        "snapshot": SnapshotText(
            incident.snapshot, Masker(site_secrets()), but=incident.job_name
        )
        if incident.snapshot
        else None,
        "may_view_output": user.has_perm("chroniker.view_output"),
        "may_view_jobs": admin.may_view(request, "job"),
        "live_url": admin.admin_url(admin.view_name("live"), incident.pk),
        **{f"{view}_url": admin.admin_url(admin.view_name(view), incident.pk)
           for view in ("acknowledge", "history", "delete")},
    }  # fmt: skip


def changing_context(
    admin: IncidentAdmin, request: HttpRequest, incident: Incident
) -> dict[str, object]:
    """What live updates replace."""
    rows = deliveries(incident)
    by = incident.acknowledged_by
    return {
        "incident": incident,
        "state_badge": admin.state(incident),
        "badge": formats.severity_badge(incident.severity, incident.get_severity_display()),
        "opened": formats.relative_time(incident.opened_at),
        "acknowledged_by": str(by) if by else _("a deleted user"),
        "runbook": runbook_link(incident.job),
        "advice": advice(incident.kind) if incident.is_open else "",
        "facts": incident_facts(admin, request, incident),
        "timeline": build_timeline(incident, rows),
        "summary": summarize(incident, rows),
        "may_view_notifications": admin.may_view(request, "notification"),
        "deliveries": [_delivery_row(row) for row in rows[-_LISTED:]],
        "not_listed": max(0, len(rows) - _LISTED),
    }


def incident_facts(admin: IncidentAdmin, request: HttpRequest, incident: Incident) -> list[Fact]:
    """What the incident is about and when it was seen, in the order in which it is read."""
    rows: list[Fact] = []
    if incident.kind == IncidentKind.HOST:
        rows.append((_("host"), incident.host))
    else:
        rows.append((_("job"), _job(admin, request, incident)))
        if incident.host:
            rows.append((_("placement"), incident.host))
    if incident.team:
        rows.append((_("team"), incident.team))
    if incident.cause is not None:
        rows.append((_("cause"), admin.link(admin.view_name("change"), incident.cause)))
    rows.append((_("opened"), formats.time_html(incident.opened_at)))
    if incident.occurrences > 1:
        number = ngettext("%d time", "%d times", incident.occurrences) % incident.occurrences
        rows += [
            (_("last seen"), formats.time_html(incident.last_seen_at)),
            (_("seen"), number),
        ]
    if incident.resolved_at is not None:
        rows.append((_end(incident), formats.time_html(incident.resolved_at)))
    runs = {_("first run"): incident.first_run_id, _("last run"): incident.last_run_id}
    if incident.first_run_id == incident.last_run_id:
        runs = {_("run"): incident.last_run_id}
    return rows + [(label, _run(admin, request, pk)) for label, pk in runs.items() if pk]


def _job(admin: IncidentAdmin, request: HttpRequest, incident: Incident) -> SafeString | str:
    job = incident.job
    if job is None:
        return _("%(name)s (deleted)") % {"name": incident.job_name or _("unknown")}
    link = admin.link("chroniker_job_page" if admin.may_view(request, "job") else "", job)
    if incident.job_name in ("", job.name):
        return link
    former = _("was called %(name)s when it opened") % {"name": incident.job_name}
    return format_html("{}<br><small>{}</small>", link, former)


def _run(admin: IncidentAdmin, request: HttpRequest, pk: int) -> SafeString | str:
    if not admin.may_view(request, "run"):
        return str(pk)
    return format_html('<a href="{}">{}</a>', admin.admin_url("chroniker_run_change", pk), pk)


def _end(incident: Incident) -> str:
    """How it ended: only a recovery is called resolved."""
    recovered = incident.ended_by in ("", IncidentEnd.RECOVERED)
    return _("resolved") if recovered else _("closed")


def build_timeline(incident: Incident, rows: Sequence[Delivery]) -> list[TimelineEntry]:
    """What happened, in order. ``rows``: the notifications, oldest first."""
    entries = [TimelineEntry(incident.opened_at, _("opened"), incident.summary)]
    entries += _notification_entries(rows)
    if incident.acknowledged_at is not None:
        by = str(incident.acknowledged_by or _("a deleted user"))
        text = _("acknowledged by %(user)s") % {"user": by}
        entries.append(TimelineEntry(incident.acknowledged_at, text, incident.note))
    if incident.occurrences > 1:
        text = _("last seen; seen %(number)d times in all") % {"number": incident.occurrences}
        entries.append(TimelineEntry(incident.last_seen_at, text))
    if incident.resolved_at is not None:
        entries.append(TimelineEntry(incident.resolved_at, _end(incident), incident.resolution))
    return sorted(entries, key=lambda entry: entry.at)


def _notification_entries(rows: Sequence[Delivery]) -> list[TimelineEntry]:
    """One entry for all recipients of an event."""
    groups: list[list[Delivery]] = []
    latest: dict[str, list[Delivery]] = {}
    for row in rows:
        group = latest.get(row.event)
        if group is None or row.created_at - group[0].created_at > _TOGETHER:
            latest[row.event] = group = []
            groups.append(group)
        group.append(row)
    return [
        TimelineEntry(
            group[0].created_at,
            _("notification: %(event)s") % {"event": group[0].event},
            _("to %(number)d recipients") % {"number": len(group)} if len(group) > 1 else "",
        )
        for group in groups
    ]


def _delivery_row(delivery: Delivery) -> dict[str, object]:
    if delivery.sent_at is not None:
        state, when = formats.badge("succeeded", _("sent")), delivery.sent_at
    elif delivery.dropped_at is not None:
        state, when = formats.badge("missed", _("dropped")), delivery.dropped_at
    else:
        name = "failed" if delivery.attempts else "due"
        state, when = formats.badge(name, _("waiting")), delivery.created_at
    return {"delivery": delivery, "state": state, "when": formats.time_html(when)}
