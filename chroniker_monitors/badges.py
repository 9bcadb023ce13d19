"""Badges: what they say, as SVG and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from xml.sax.saxutils import escape, quoteattr

from chroniker.models import Job, JobState
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState

_CHARACTER = 6.8
"""Average width of a character of 11 px Verdana, px; wide ones are counted twice."""
_PADDING = 10
_HEIGHT = 20


class BadgeState(Enum):
    """What a badge says: message, and colour with enough contrast for white text."""

    PASSING = "passing", "#2d7d2d"
    """The last runs succeeded, or the monitor is ok."""
    WARNING = "warning", "#9a6700"
    """A monitor has crossed its warning threshold."""
    CRITICAL = "critical", "#b62324"
    """A monitor has crossed its critical threshold."""
    UNKNOWN = "unknown", "#5d5d5d"
    """A monitor could not be measured."""
    FAILING = "failing", "#b62324"
    """The last run failed."""
    LATE = "late", "#9a6700"
    """The job is due and does not start."""
    NO_RUNS = "no runs yet", "#5d5d5d"
    """It has never run."""
    DISABLED = "disabled", "#5d5d5d"
    """It is disabled."""

    @property
    def message(self) -> str:
        """The right half."""
        return self.value[0]

    @property
    def colour(self) -> str:
        """The colour of the right half."""
        return self.value[1]


_OF_SEVERITY = {
    Severity.OK: BadgeState.PASSING,
    Severity.WARNING: BadgeState.WARNING,
    Severity.UNKNOWN: BadgeState.UNKNOWN,
    Severity.CRITICAL: BadgeState.CRITICAL,
}
"""From the best to the worst."""


@dataclass(frozen=True, slots=True)
class RenderedBadge:
    """A badge with the name of its job."""

    label: str
    state: BadgeState

    def as_dict(self) -> dict[str, object]:
        """The schema of an endpoint badge of shields.io."""
        return {
            "schemaVersion": 1,
            "label": self.label,
            "message": self.state.message,
            "color": self.state.colour,
            "cacheSeconds": 60,
        }

    def as_svg(self) -> str:
        """An image of 20 px height. It contains no script, no link and no outside font."""
        left, right = _width(self.label), _width(self.state.message)
        title = f"{self.label}: {self.state.message}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}"'
            f' role="img" aria-label={quoteattr(title)}>'
            f"<title>{escape(title)}</title>"
            f'<rect width="{left}" height="{_HEIGHT}" fill="#3c3c3c"/>'
            f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{self.state.colour}"/>'
            '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif"'
            ' font-size="11">'
            f'<text x="{left / 2:g}" y="14">{escape(self.label)}</text>'
            f'<text x="{left + right / 2:g}" y="14">{escape(self.state.message)}</text>'
            "</g></svg>"
        )


def render(job: Job) -> RenderedBadge:
    """Return the badge of a job: a constant number of queries."""
    label = "".join(character if character.isprintable() else "?" for character in job.name)
    return RenderedBadge(label, _state(job))


def _state(job: Job) -> BadgeState:
    if not job.enabled:
        return BadgeState.DISABLED
    states = list(JobState.objects.current().filter(job=job))
    if any(state.overdue_incident for state in states):
        return BadgeState.LATE
    placements = [state.host for state in states]
    measured = MonitorState.objects.filter(
        job=job, host__in=placements, last_sample_at__isnull=False
    )
    order = list(_OF_SEVERITY)
    severities = [Severity(severity) for severity in measured.values_list("severity", flat=True)]
    if severities:
        return _OF_SEVERITY[max(severities, key=order.index)]
    if any(state.consecutive_failures for state in states):
        return BadgeState.FAILING
    if all(state.last_ended_at is None for state in states):
        return BadgeState.NO_RUNS
    return BadgeState.PASSING


def _width(text: str) -> int:
    wide = sum(ord(character) > 0x2E80 for character in text)
    return round((len(text) + wide) * _CHARACTER) + 2 * _PADDING
