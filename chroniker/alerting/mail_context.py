"""The context of the mail templates."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model

from chroniker.enums import NotificationEvent, RunStatus, Stream
from chroniker.masking import Masker
from chroniker.models import Digest, Job, Notification, OutputChunk
from chroniker.models.job import site_timezone

from .incident_context import MailContext, bundle_context, incident_context, parse_time
from .links import admin_link, job_pages, runbook_link, site_url
from .recipients import MAIL
from .text import escape_controls, one_line, zone_or_utc

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
        "job_name": line(job.name if job else facts.get("job") or ""),
        "job_url": admin_link(job),
        "command": line(_command_of(job)) if job else "",
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
    zone = zone_of(notification)
    context |= {
        "zone": zone.key,
        "pages": job_pages(job),
        "team": line(incident.team if incident else job.team if job else ""),
    }
    if run is not None:
        context["host"] = line(run.ran_on or run.host)
        context["status"] = RunStatus(run.status).label
        context["error"] = block(run.error)
        if run.status != RunStatus.SUCCEEDED:
            context["tail_stream"], context["tail"] = tail_of(run.pk, masker)
    if incident is not None:
        if incident.job_id == notification.job_id:
            incident.job = job  # loaded already, and it may have been deleted since
        context |= incident_context(notification, incident, masker)
        context["host"] = context["host"] or context["placement"]
    if notification.event == NotificationEvent.BUNDLE:
        context |= bundle_context(notification, masker)
    if notification.event == NotificationEvent.DIGEST:
        context |= {
            "since": parse_time(facts.get("since")),
            "until": parse_time(facts.get("until")),
            "more": facts.get("more", False),
            "incidents": [
                entry
                | {
                    "job": line(entry["job"]),
                    "summary": line(entry["summary"]),
                    "opened_at": parse_time(entry["opened_at"]),
                    "resolved_at": parse_time(entry["resolved_at"]),
                }
                for entry in facts.get("incidents", [])
            ],
        }
    return context


def _command_of(job: Job) -> str:
    """The command or task, without arguments that may be secret; nothing for a monitor's."""
    return job.work_name if job.failures_open_incidents else ""


def zone_of(notification: Notification) -> ZoneInfo:
    """The time zone of the recipient's digest, else the job's, else the site's."""
    if notification.channel == MAIL and notification.recipient:
        field = get_user_model().get_email_field_name()
        owner = {f"user__{field}__iexact": notification.recipient}
        chosen = Digest.objects.filter(**owner).values_list("timezone", flat=True).first()
        if chosen:
            return zone_or_utc(chosen)
    job = notification.job
    return zone_or_utc(job.timezone if job else site_timezone())


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
