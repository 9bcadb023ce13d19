"""What an incident is called in a subject, a chat message or a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from chroniker.enums import IncidentKind, NotificationEvent, Severity

from .text import one_line

_PROBLEM_LENGTH = 140
_NAMES = 3


def problem(kind: str, subject: str, summary: str) -> str:
    """What is wrong, in one line: ``import failed: OSError: disk full``."""
    words = {"subject": subject, "summary": one_line(summary, _PROBLEM_LENGTH)}
    match kind:
        case IncidentKind.FAILING:
            text = _("%(subject)s failed: %(summary)s")
        case IncidentKind.OVERDUE:
            text = _("%(subject)s is overdue. %(summary)s")
        case IncidentKind.BLOCKED:
            text = _("%(subject)s is blocked. %(summary)s")
        case IncidentKind.HOST:
            text = _("Host %(subject)s is silent. %(summary)s")
        case _condition:
            value, _colon, detail = words["summary"].partition(": ")
            return f"{value}, {subject}" + (f": {detail}" if detail else "")
    return text % words


def advice(kind: str) -> str:
    """What to do about it, if the job has no runbook."""
    match kind:
        case IncidentKind.FAILING:
            return _("Read the output of the run. Fix the cause, then run the job again.")
        case IncidentKind.OVERDUE:
            return _(
                "Check that a host that may run the job ticks, and is neither paused nor full."
            )
        case IncidentKind.BLOCKED:
            return _(
                "Enable or run the job that it waits for, remove the dependency, or correct the "
                "schedule."
            )
        case IncidentKind.HOST:
            return _(
                "Start the machine or its cron line. If the host is gone for good, retire it, and "
                "let its jobs run on another one."
            )
        case _condition:
            return _(
                "Look at what is measured. If the value is as it should be, change the threshold."
            )


def title(event: str, kind: str, subject: str, facts: Mapping[str, Any]) -> str:
    """The subject of a message about an incident. ``facts`` are those of the notification."""
    severity = str(Severity(facts["severity"]).label)
    summary = str(facts.get("summary") or "")
    if event == NotificationEvent.OPENED:
        return f"{severity.capitalize()}: {problem(kind, subject, summary)}"
    if event == NotificationEvent.WORSENED:
        head = _("Now %(severity)s") % {"severity": severity}
        return f"{head}: {problem(kind, subject, summary)}"
    if event == NotificationEvent.REMINDER:
        head = _("Still open, %(severity)s") % {"severity": severity}
        return f"{head}: {problem(kind, subject, summary)}"
    if event == NotificationEvent.FLAPPING:
        return _("Flapping, no more messages for now: %(problem)s") % {
            "problem": problem(kind, subject, summary)
        }
    head = _("Recovered") if event == NotificationEvent.RESOLVED else _("Closed")
    name = label(kind, subject)
    resolution = one_line(str(facts.get("resolution") or ""), _PROBLEM_LENGTH)
    return f"{head}: {name}. {resolution}".strip()


def label(kind: str, subject: str) -> str:
    """The job, or that it is a host."""
    return _("Host %(host)s") % {"host": subject} if kind == IncidentKind.HOST else subject


def bundle_title(event: str, number: int, names: list[str]) -> str:
    """The subject of a message that lists many."""
    listed = ", ".join(names[:_NAMES])
    if len(names) > _NAMES:
        listed += _(" and %(number)d more") % {"number": len(names) - _NAMES}
    words = {"number": number, "names": listed}
    match event:
        case NotificationEvent.OPENED:
            text = _("%(number)d new incidents: %(names)s")
        case NotificationEvent.WORSENED:
            text = _("%(number)d incidents are worse: %(names)s")
        case NotificationEvent.REMINDER:
            text = _("%(number)d incidents are still open: %(names)s")
        case NotificationEvent.FLAPPING:
            text = _("%(number)d incidents are flapping: %(names)s")
        case NotificationEvent.RESOLVED:
            text = _("%(number)d incidents have recovered: %(names)s")
        case _closed:
            text = _("%(number)d incidents are closed: %(names)s")
    return text % words
