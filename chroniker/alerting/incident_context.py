"""What mails and chat messages say about incidents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.timesince import timesince

from chroniker.enums import IncidentEnd, IncidentKind, NotificationEvent, RunStatus, Severity
from chroniker.masking import Masker
from chroniker.models import Incident, Job, JobState, Notification

from .links import admin_link, list_link, row_link
from .snapshot_text import SnapshotText
from .text import escape_controls, one_line
from .wording import advice, bundle_title, label, problem, title

MailContext = dict[str, Any]
"""The variables of a template, whose values have any type."""

LISTED_JOBS = 20
"""How many upstream and waiting jobs a message names."""


def incident_context(notification: Notification, incident: Incident, masker: Masker) -> MailContext:
    """The names about the incident of a notification."""
    facts = notification.facts
    severity = facts.get("severity", incident.severity)
    summary = masker.mask_text(facts.get("summary", incident.summary))
    subject = subject_of(incident, facts, masker)
    host_kind = incident.kind == IncidentKind.HOST
    return {
        "incident": incident,
        "incident_url": admin_link(incident),
        "kind": incident.kind,
        "kind_label": IncidentKind(incident.kind).label,
        "severity": severity,
        "severity_label": Severity(severity).label,
        "subject": subject,
        "title": title(
            notification.event, incident.kind, subject,
            {
                "severity": severity,
                "summary": summary,
                "resolution": masker.mask_text(facts.get("resolution") or ""),
            },
        ),
        "label": label(incident.kind, subject),
        "problem": problem(incident.kind, subject, summary),
        "advice": advice(incident.kind),
        "was_noticed": incident.kind not in (IncidentKind.FAILING, IncidentKind.CONDITION),
        "summary": escape_controls(summary)[:4000].strip("\n"),
        "headline": one_line(summary),
        "resolution": escape_controls(masker.mask_text(facts.get("resolution") or "")),
        "recovered": facts.get("ended_by", "") in ("", IncidentEnd.RECOVERED),
        "occurrences": facts.get("occurrences", incident.occurrences),
        "opened_at": incident.opened_at,
        "last_seen_at": parse_time(facts.get("last_seen_at")),
        "resolved_at": parse_time(facts.get("resolved_at")),
        "duration": _duration(incident.opened_at, notification, facts),
        "placement": "" if host_kind else one_line(masker.mask_text(incident.host)),
        "former_name": _former_name(incident, masker),
        **_times(incident),
        "upstreams": _upstreams(incident, masker),
        "waiting": _waiting(incident, masker),
        "snapshot": SnapshotText(incident.snapshot, masker, but=incident.job_name)
        if incident.snapshot
        else None,
    }  # fmt: skip


def subject_of(incident: Incident, facts: MailContext, masker: Masker) -> str:
    """The job, with its placement, or the host, by the name it had when this was written."""
    if incident.kind == IncidentKind.HOST:
        return one_line(masker.mask_text(incident.host))
    name = facts.get("job") or (incident.job.name if incident.job else incident.job_name)
    where = f" on {incident.host}" if incident.host else ""
    return one_line(masker.mask_text(name + where))


def _former_name(incident: Incident, masker: Masker) -> str:
    """The name of the job when the incident opened, if it was renamed since."""
    if incident.job is None or incident.job_name in ("", incident.job.name):
        return ""
    return one_line(masker.mask_text(incident.job_name))


def _duration(since: datetime, notification: Notification, facts: MailContext) -> str:
    until = parse_time(facts.get("resolved_at")) or notification.created_at
    if (until - since).total_seconds() < 60:
        return ""
    return timesince(since, until).replace("\xa0", " ")


def _times(incident: Incident) -> MailContext:
    """When the job succeeded last, and when it runs next."""
    if incident.job_id is None:
        return {"last_success_at": None, "next_run_at": None}
    states = JobState.objects.filter(job=incident.job_id, host=incident.host)
    row = states.values_list("last_success_at", "due_at").first() or (None, None)
    return {"last_success_at": row[0], "next_run_at": row[1]}


def _upstreams(incident: Incident, masker: Masker) -> list[MailContext]:
    """The jobs that the job waits for, with what their last run did."""
    if incident.job_id is None:
        return []
    states = JobState.objects.current().filter(
        job__downstream_dependencies__downstream=incident.job_id
    )
    rows = states.order_by("job__name").values_list(
        "job__name", "host", "last_status", "last_ended_at", "job__enabled"
    )[:LISTED_JOBS]
    return [
        {
            "name": one_line(masker.mask_text(name + (f" on {host}" if host else ""))),
            "status": RunStatus(status).label if status else "",
            "ended_at": ended_at,
            "enabled": enabled,
        }
        for name, host, status, ended_at, enabled in rows
    ]


def _waiting(incident: Incident, masker: Masker) -> MailContext:
    """The jobs that wait for the end of the incident, and how many there are."""
    folded = Job.objects.filter(incidents__cause=incident.pk, incidents__resolved_at=None)
    found = set(folded.values_list("name", flat=True))
    if incident.job_id is not None:
        downstream = Job.objects.filter(
            dependencies__upstream=incident.job_id,
            dependencies__wait_for_success=True,
            enabled=True,
        )
        found.update(downstream.values_list("name", flat=True))
    names = sorted(found)
    return {
        "number": len(names),
        "names": [one_line(masker.mask_text(name)) for name in names[:LISTED_JOBS]],
        "more": max(0, len(names) - LISTED_JOBS),
    }


def bundle_context(notification: Notification, masker: Masker) -> MailContext:
    """The names about the members of a bundle, the most severe first."""
    event = notification.facts["event"]
    members = [_bundled(member, event, masker) for member in notification.facts["members"]]
    members.sort(key=lambda member: -Severity(member["severity"]).rank)
    names = [member["subject"] for member in members]
    return {
        "bundled_event": event,
        "number": len(members),
        "members": members,
        "severity": members[0]["severity"],
        "title": bundle_title(event, len(members), names),
        "list_url": list_link(Incident),
    }


def _bundled(member: MailContext, event: str, masker: Masker) -> MailContext:
    name = member["job"]
    if member["kind"] == IncidentKind.HOST:
        name = member["host"]
    elif member["host"]:
        name = f"{name} on {member['host']}"
    subject = one_line(masker.mask_text(name))
    summary = masker.mask_text(member["summary"])
    resolution = one_line(masker.mask_text(member.get("resolution") or ""))
    ended = event in (NotificationEvent.RESOLVED, NotificationEvent.CLOSED)
    return {
        "subject": subject,
        "severity": member["severity"],
        "severity_label": Severity(member["severity"]).label,
        "opened_at": parse_time(member["opened_at"]),
        "text": f"{label(member['kind'], subject)}. {resolution}"
        if ended
        else problem(member["kind"], subject, summary),
        "url": row_link(Incident, member["incident"]),
    }


def parse_time(text: str | None) -> datetime | None:
    """A time as it is stored in facts."""
    return datetime.fromisoformat(text) if text else None
