"""How bad a value is, and when a monitor's state changes. Pure: no tables, no clock.

The severities are four rungs of a ladder: ok, warning, unknown, critical. (Unknown stands above
warning, because nobody can say that it is not worse, and below critical, which is certain.) For
each rung but the first a monitor keeps whether it stands there or above. That changes when
``consecutive`` samples in a row were there or above, or ``recovery`` samples in a row below; one
that disagrees begins the count anew. So two critical samples among three bad ones make a warning
and not yet an alarm, and a value that jumps to and fro across a threshold changes nothing.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .enums import Severity

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
    "==": operators.eq,
    "!=": operators.ne,
}

SEVERITY_ORDER = (Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL)
"""From good to bad."""


def rank(severity: Severity) -> int:
    """The rung on which a severity stands, 0 for ok."""
    return SEVERITY_ORDER.index(severity)


def evaluate(
    value: float, operator: str, warning: float | None, critical: float | None
) -> Severity:
    """How bad ``value`` is. Raises KeyError for no operator.

    Unknown where the value or a threshold is no number (NaN): compared with that all is well.
    """
    exceeds = _COMPARISONS[operator]
    if any(number is not None and math.isnan(number) for number in (value, warning, critical)):
        return Severity.UNKNOWN
    if critical is not None and exceeds(value, critical):
        return Severity.CRITICAL
    if warning is not None and exceeds(value, warning):
        return Severity.WARNING
    return Severity.OK


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a value is held against."""

    operator: str
    warning: float | None = None
    critical: float | None = None

    def evaluate(self, value: float) -> Severity:
        """How bad ``value`` is."""
        return evaluate(value, self.operator, self.warning, self.critical)

    def warning_is_unreachable(self) -> bool:
        """Whether nothing could ever be a warning, because it is critical before."""
        if self.warning is None or self.critical is None:
            return False
        if self.operator in (">", ">="):
            return self.warning >= self.critical
        if self.operator in ("<", "<="):
            return self.warning <= self.critical
        return False


@dataclass(frozen=True, slots=True)
class SeverityState:
    """A monitor's severity, and for each rung how many samples in a row disagree with it."""

    severity: Severity = Severity.OK
    warning_streak: int = 0
    unknown_streak: int = 0
    critical_streak: int = 0

    @property
    def streaks(self) -> tuple[int, int, int]:
        """As a tuple, from the lowest rung up."""
        return self.warning_streak, self.unknown_streak, self.critical_streak


@dataclass(frozen=True, slots=True)
class SeverityChange:
    """From one severity to another."""

    before: Severity
    after: Severity

    @property
    def is_worse(self) -> bool:
        """Whether it went up the ladder."""
        return rank(self.after) > rank(self.before)

    @property
    def is_recovery(self) -> bool:
        """Whether all is well again."""
        return self.after is Severity.OK


def advance(
    severity_state: SeverityState, measured: Severity, *, consecutive: int = 1, recovery: int = 1
) -> tuple[SeverityState, SeverityChange | None]:
    """Where a monitor stands after one more sample, and whether that is a change."""
    current_rank, measured_rank = rank(severity_state.severity), rank(measured)
    streaks, reached = [], 0
    for level, streak in enumerate(severity_state.streaks, 1):
        at_level, agrees = (
            current_rank >= level,
            (current_rank >= level) == (measured_rank >= level),
        )
        streak = 0 if agrees else streak + 1
        if streak >= (recovery if at_level else consecutive):
            at_level, streak = not at_level, 0
        streaks.append(streak)
        if at_level:
            reached = level
    severity = SEVERITY_ORDER[reached]
    change = (
        SeverityChange(severity_state.severity, severity)
        if severity is not severity_state.severity
        else None
    )
    return SeverityState(severity, *streaks), change
