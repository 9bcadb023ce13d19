"""Mails: plain text and HTML, by templates that a site can override, an incident in one thread."""

from __future__ import annotations

import contextlib
import logging
import smtplib
from datetime import datetime
from email.utils import formataddr, parseaddr
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.backends.django import DjangoTemplates
from django.template.loader import select_template

from chroniker.conf import conf
from chroniker.enums import IncidentKind, NotificationEvent, RunStatus, Severity, Stream
from chroniker.masking import Masker, site_secrets
from chroniker.models import Notification, OutputChunk

from .notifiers import ChannelDown, Notifier, admin_link, one_line, plain, runbook_of, site_url
from .outbox import MAIL, key_of

logger = logging.getLogger(__name__)

TAIL_LINES = 20
_TAIL_CHARACTERS = 16_000
_LINE_CHARACTERS = 500


class Mail(Notifier):
    """Sends through the site's mail backend, with one connection for a batch."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._masker = Masker(site_secrets())

    def __exit__(self, *error: object) -> None:
        """Say goodbye to the server, however it is."""
        if self._connection is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._connection.close()

    def send(self, notification: Notification) -> None:
        """Send one mail."""
        message = build(notification, self._masker)
        try:
            if self._connection is None:
                self._connection = _connect()
                self._connection.open()  # or it would be opened and closed for each mail
            message.connection = self._connection
            if not message.send():
                raise OSError("the mail backend sent nothing")
        except (smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError, TimeoutError) as error:
            raise ChannelDown(f"the mail server went away: {error}") from error
        except smtplib.SMTPAuthenticationError as error:
            raise ChannelDown(f"the mail server does not let us in: {error}") from error
        except smtplib.SMTPException:
            raise  # it refuses this mail; another one it may take
        except OSError as error:
            raise ChannelDown(f"the mail server cannot be reached: {error}") from error


def _connect() -> Any:
    options: dict[str, Any] = {"timeout": conf.EMAIL_TIMEOUT}
    user = conf.EMAIL_HOST_USER
    if user and settings.EMAIL_HOST_USER and user != settings.EMAIL_HOST_USER:
        options["username"] = user
    return get_connection(fail_silently=False, **options)


# --- the message ---


def build(notification: Notification, masker: Masker) -> EmailMultiAlternatives:
    """The mail of a notification, the same each time it is built."""
    context = _context(notification, masker)
    event = notification.event
    kind = "digest" if event == NotificationEvent.DIGEST else "incident"
    if event == NotificationEvent.SUCCEEDED:
        kind = "succeeded"
    subject, text, html = (
        _render([f"chroniker/mail/{word}{part}" for word in (event, kind)], context)
        for part in ("_subject.txt", ".txt", ".html")
    )
    subject = one_line(subject, 400)
    message = EmailMultiAlternatives(
        subject=conf.EMAIL_SUBJECT_PREFIX + subject,
        body=text,
        from_email=sender(),
        to=[notification.recipient],
        headers=_headers(notification, context),
    )
    message.attach_alternative(html, "text/html")
    return message


def _render(names: list[str], context: dict[str, Any]) -> str:
    """By the first of the templates; by our own where the site's is broken: better than late."""
    try:
        text: str = select_template(names).render(context)
    except Exception as error:
        if names[0] not in _broken:  # said once by each process, not once for each mail
            _broken.add(names[0])
            logger.error("A template for %s cannot be used: %r", " or ".join(names), error)
        text = _own_templates().get_template(names[-1]).render(context)
    return text


_broken: set[str] = set()


@cache
def _own_templates() -> DjangoTemplates:
    """Those of this package, whatever the site has set up."""
    return DjangoTemplates(
        {
            "NAME": "chroniker",
            "DIRS": [Path(__file__).parent / "templates"],
            "APP_DIRS": False,
            "OPTIONS": {},
        }
    )


def sender() -> str:
    """CHRONIKER_EMAIL_SENDER <CHRONIKER_EMAIL_HOST_USER>, or what the site has."""
    name, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    if "@" in conf.EMAIL_HOST_USER:
        address = conf.EMAIL_HOST_USER
    return formataddr((conf.EMAIL_SENDER or name, address))


def domain() -> str:
    """What identifies this site in headers: the same on every host."""
    host = urlsplit(site_url()).hostname
    return host or sender().rpartition("@")[2].strip(">") or "localhost"


def _headers(notification: Notification, context: dict[str, Any]) -> dict[str, str]:
    here = domain()
    headers = {
        "Message-ID": f"<{notification.key[:40]}@{here}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Chroniker-Event": str(notification.event),
    }
    if notification.job is not None:
        headers["List-Id"] = f"<job-{notification.job.pk}.chroniker.{here}>"
        headers["X-Chroniker-Job"] = one_line(context["job_name"], 150)
    else:
        headers["List-Id"] = f"<digest.chroniker.{here}>"
    if notification.incident_id is not None:
        headers["X-Chroniker-Severity"] = context["severity"]
        if notification.event != NotificationEvent.OPENED:
            opening = key_of(
                incident=notification.incident_id,
                run=None,
                event=NotificationEvent.OPENED,
                number="",
                channel=MAIL,
                recipient=notification.recipient,
            )
            headers["In-Reply-To"] = headers["References"] = f"<{opening[:40]}@{here}>"
    return headers


def _context(notification: Notification, masker: Masker) -> dict[str, Any]:
    """What templates may use: texts that are masked and harmless, moments, and links."""

    def line(text: str) -> str:
        return one_line(masker.mask_text(text))

    def block(text: str, most: int = 4000) -> str:
        return plain(masker.mask_text(text))[:most].strip("\n")

    facts, incident, run, job = (
        notification.facts, notification.incident, notification.run, notification.job,
    )  # fmt: skip
    context: dict[str, Any] = {
        "event": str(notification.event),
        "event_label": notification.get_event_display(),
        "notification": notification,
        "job": job,
        "job_name": line(job.name) if job else "",
        "job_url": admin_link(job),
        "command": line(job.command) if job else "",
        "description": block(job.description, 1000) if job else "",
        "runbook_url": runbook_of(notification),
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
            "last_seen_at": _moment(facts.get("last_seen_at")),
            "resolved_at": _moment(resolved_at),
            "host": context["host"] or line(incident.host),
            "slot": line(incident.host),
            "headline": line(facts.get("summary", incident.summary)),
        }
    if notification.event == NotificationEvent.DIGEST:
        context |= {
            "since": _moment(facts.get("since")),
            "until": _moment(facts.get("until")),
            "more": facts.get("more", False),
            "incidents": [
                entry
                | {
                    "job": line(entry["job"]),
                    "summary": line(entry["summary"]),
                    "opened_at": _moment(entry["opened_at"]),
                    "resolved_at": _moment(entry["resolved_at"]),
                }
                for entry in facts.get("incidents", [])
            ],
        }
    return context


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def tail_of(run: int, masker: Masker) -> tuple[str, str]:
    """The last lines of a run's stderr or, where there are none, of its log; and which."""
    for stream in (Stream.STDERR, Stream.LOG):
        text = ""
        chunks = OutputChunk.objects.filter(run=run, stream=stream).order_by("-offset")
        for chunk in chunks.values_list("text", flat=True)[:50]:
            text = chunk + text
            if len(text) > _TAIL_CHARACTERS or text.count("\n") > TAIL_LINES:
                break
        if text.strip():
            # Masked before it is cut: half a secret is one, too.
            lines = plain(masker.mask_text(text)).rstrip("\n").split("\n")[-TAIL_LINES:]
            cut = "\n".join(_cut(line) for line in lines)
            return stream.value, cut[-_TAIL_CHARACTERS:]
    return "", ""


def _cut(line: str) -> str:
    return line if len(line) <= _LINE_CHARACTERS else line[:_LINE_CHARACTERS] + " …"
