"""Where a monitor stands on all its hosts together; from rows that were read already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.admin import formats
from chroniker.models import Job
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Probe
from chroniker_monitors.thresholds import rank


@dataclass(frozen=True, slots=True)
class MonitorDisplay:
    """The worst of the host slots, in words."""

    badge: str
    detail: str = ""
    note: str = ""
    state: MonitorState | None = None


def placement_states(job: Job) -> list[MonitorState]:
    """The states on the host slots that the definition of today has."""
    return [state for state in job.monitor_states.all() if bool(state.host) == job.every_host]


def describe_monitor(job: Job, states: Sequence[MonitorState]) -> MonitorDisplay:
    """How the monitor stands; a disabled one says so beside what it last knew."""
    sampled = [state for state in states if state.last_sample_at is not None]
    disabled = "" if job.enabled else _("disabled")
    if not sampled:
        return MonitorDisplay(
            formats.badge("disabled" if disabled else "idle", _("no sample yet")), note=disabled
        )
    worst = max(sampled, key=lambda state: rank(Severity(state.severity)))
    severity = Severity(worst.severity)
    notes = [disabled, _streak(job.probe, worst)]
    if worst.host:
        notes.append(_("on %(host)s") % {"host": worst.host})
    return MonitorDisplay(
        formats.badge(f"severity-{severity.name.lower()}", severity.label),
        detail=worst.error or worst.message,
        note=", ".join(note for note in notes if note),
        state=worst,
    )


def _streak(probe: Probe, state: MonitorState) -> str:
    """How far it is on its way to another state."""
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
