"""The state of a monitor on all its hosts together. Uses prefetched rows, no queries."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.admin import formats
from chroniker.models import Job
from chroniker_monitors.enums import Severity
from chroniker_monitors.exceptions import UnknownKind
from chroniker_monitors.models import MonitorState, Probe
from chroniker_monitors.probes import kind_class
from chroniker_monitors.thresholds import rank

from .values import format_value


@dataclass(frozen=True, slots=True)
class MonitorDisplay:
    """The worst state of a monitor, as it is shown."""

    badge: str
    detail: str = ""
    note: str = ""
    state: MonitorState | None = None
    """None before the first sample."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A threshold, as it is shown."""

    label: str
    operator: str
    value: str


def placement_states(job: Job) -> list[MonitorState]:
    """Return the states on the placements of the current definition."""
    return [state for state in job.monitor_states.all() if bool(state.host) == job.every_host]


def describe_monitor(job: Job) -> MonitorDisplay:
    """Describe the worst state. A disabled monitor shows its last known state and a note."""
    sampled = [state for state in placement_states(job) if state.last_sample_at is not None]
    disabled = "" if job.enabled else _("disabled")
    muted = _("muted") if getattr(job, "is_muted", False) else ""
    if not sampled:
        return MonitorDisplay(
            formats.badge("disabled" if disabled else "idle", _("no sample yet")),
            note=", ".join(note for note in (disabled, muted) if note),
        )
    worst = max(sampled, key=lambda state: rank(Severity(state.severity)))
    notes = [disabled, muted, _streak(job.probe, worst)]
    if worst.host:
        notes.append(_("on %(host)s") % {"host": worst.host})
    return MonitorDisplay(
        severity_badge(worst.severity),
        detail=worst.error or worst.message,
        note=", ".join(note for note in notes if note),
        state=worst,
    )


def severity_badge(severity: int) -> str:
    """Render a severity as a badge."""
    member = Severity(severity)
    return formats.badge(f"severity-{member.name.lower()}", member.label)


def describe_bounds(job: Job) -> list[Bound]:
    """Return the thresholds of a monitor that are set."""
    state = describe_monitor(job).state
    unit = job.probe.unit or (state.unit if state is not None else "")
    learns = job.probe.thresholds.learns
    return [
        Bound(
            str(severity.label),
            _("outside") if learns else job.probe.operator,
            format_value(value, _("times usual") if learns else unit),
        )
        for severity, value in (
            (Severity.WARNING, job.probe.warning),
            (Severity.CRITICAL, job.probe.critical),
        )
        if value is not None
    ]


def kind_label(kind: str) -> str:
    """Return the label of a kind, or its name if it is not installed."""
    try:
        return kind_class(kind).label or kind
    except UnknownKind:
        return kind


def display_unit(job: Job, state: MonitorState) -> str:
    """Return the unit of the definition or, if that is empty, of the last measurement."""
    return job.probe.unit or state.unit


def _streak(probe: Probe, state: MonitorState) -> str:
    """Describe how many samples have already pointed to another severity."""
    streak = max(state.severity_state.streaks)
    if not streak:
        return ""
    better = rank(Severity(state.measured_severity)) < rank(Severity(state.severity))
    if better:
        needed = probe.recovery
        text = ngettext(
            "%(streak)d of %(needed)d better sample",
            "%(streak)d of %(needed)d better samples",
            needed,
        )
    else:
        needed = probe.consecutive
        text = ngettext(
            "%(streak)d of %(needed)d worse sample",
            "%(streak)d of %(needed)d worse samples",
            needed,
        )
    return text % {"streak": streak, "needed": needed}
