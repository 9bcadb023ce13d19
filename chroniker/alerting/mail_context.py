"""The context of the mail templates."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chroniker.enums import IncidentKind, NotificationEvent, RunStatus, Severity, Stream
from chroniker.masking import Masker
from chroniker.models import Notification, OutputChunk

from .links import admin_link, runbook_link, site_url
from .text import escape_controls, one_line

MailContext = dict[str, Any]
"""The variables of a template, whose values have any type."""

TAIL_LINES = 20
_TAIL_CHARACTERS = 16_000
_LINE_CHARACTERS = 500


def build_context(notification: Notification, masker: Masker) -> MailContext:
    """The names that templates can use: texts, masked and escaped, times and links."""

    def line(text: str) -> str:
        return one_line(masker.mask_text(text))

    def block(text: str, max_length: int = 4000) -> str:
        return escape_controls(masker.mask_text(text))[:max_length].strip("\n")

    facts, incident, run, job = (
        notification.facts, notification.incident, notification.run, notification.job,
    )  # fmt: skip
    context: MailContext = {
        "event": str(notification.event),
        "event_label": notification.get_event_display(),
        "notification": notification,
        "job": job,
        "job_name": line(job.name) if job else "",
        "job_url": admin_link(job),
        "command": line(job.command) if job else "",
        "description": block(job.description, 1000) if job else "",
        "runbook_url": runbook_link(job),
        "run": run,
        "run_url": admin_link(run),
        "site_url": site_url(),
        "tail": "",
        "error": "",
        "host": "",
        "severity": "",
    }
    if run is not None:
        context["host"] = line(run.ran_on or run.host)
        context["status"] = RunStatus(run.status).label
        context["error"] = block(run.error)
        if run.status != RunStatus.SUCCEEDED:
            context["tail_stream"], context["tail"] = tail_of(run.pk, masker)
    if incident is not None:
        severity = facts.get("severity", incident.severity)
        resolved_at = facts.get("resolved_at")
        context |= {
            "incident": incident,
            "incident_url": admin_link(incident),
            "kind": incident.kind,
            "kind_label": IncidentKind(incident.kind).label,
            "severity": severity,
            "severity_label": Severity(severity).label,
            "summary": block(facts.get("summary", incident.summary)),
            "resolution": block(facts.get("resolution") or ""),
            "occurrences": facts.get("occurrences", incident.occurrences),
            "opened_at": incident.opened_at,
            "last_seen_at": _parse_time(facts.get("last_seen_at")),
            "resolved_at": _parse_time(resolved_at),
            "host": context["host"] or line(incident.host),
            "placement": line(incident.host),
            "headline": line(facts.get("summary", incident.summary)),
        }
    if notification.event == NotificationEvent.DIGEST:
        context |= {
            "since": _parse_time(facts.get("since")),
            "until": _parse_time(facts.get("until")),
            "more": facts.get("more", False),
            "incidents": [
                entry
                | {
                    "job": line(entry["job"]),
                    "summary": line(entry["summary"]),
                    "opened_at": _parse_time(entry["opened_at"]),
                    "resolved_at": _parse_time(entry["resolved_at"]),
                }
                for entry in facts.get("incidents", [])
            ],
        }
    return context


def _parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def tail_of(run: int, masker: Masker) -> tuple[str, str]:
    """The last lines of a run's stderr or, if it is empty, of its log; with the stream's name."""
    for stream in (Stream.STDERR, Stream.LOG):
        text = ""
        chunks = OutputChunk.objects.filter(run=run, stream=stream).order_by("-offset")
        for chunk in chunks.values_list("text", flat=True)[:50]:
            text = chunk + text
            if len(text) > _TAIL_CHARACTERS or text.count("\n") > TAIL_LINES:
                break
        if text.strip():
            # Masked before it is shortened: a part of a secret would not be recognised.
            lines = escape_controls(masker.mask_text(text)).rstrip("\n").split("\n")[-TAIL_LINES:]
            cut = "\n".join(_cut(line) for line in lines)
            return stream.value, cut[-_TAIL_CHARACTERS:]
    return "", ""


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else line[:_LINE_CHARACTERS] + " …"
