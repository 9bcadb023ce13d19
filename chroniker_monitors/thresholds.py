"""Evaluate a value, and decide when the severity of a monitor changes. Pure: no ORM, no clock.

The severities are four levels: ok, warning, unknown, critical. Unknown ranks above warning,
because the value could be worse than that, and below critical, which is certain.

For each level above ok, a monitor records whether its severity has reached it. That changes after
``consecutive`` samples in a row at or above the level, or ``recovery`` samples in a row below it;
a sample that agrees with the current state resets the count. So three bad samples, two of them
critical, give a warning and not yet critical, and a value that flaps around a threshold changes
nothing.
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
"""From best to worst."""


def rank(severity: Severity) -> int:
    """Return the level of a severity; 0 is ok."""
    return SEVERITY_ORDER.index(severity)


def evaluate(
    value: float, operator: str, warning: float | None, critical: float | None
) -> Severity:
    """Return the severity of ``value``. Raises KeyError for an unknown operator.

    It is UNKNOWN if the value or a threshold is NaN, because comparing with NaN is always false.
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
    """The thresholds of a value, and how it is compared with them."""

    operator: str
    warning: float | None = None
    critical: float | None = None

    def evaluate(self, value: float) -> Severity:
        """Return the severity of ``value``; see :func:`evaluate`."""
        return evaluate(value, self.operator, self.warning, self.critical)

    def warning_is_unreachable(self) -> bool:
        """Whether every value beyond the warning threshold is also critical."""
        if self.warning is None or self.critical is None:
            return False
        if self.operator in (">", ">="):
            return self.warning >= self.critical
        if self.operator in ("<", "<="):
            return self.warning <= self.critical
        return False


@dataclass(frozen=True, slots=True)
class SeverityState:
    """A severity, and for each level how many samples in a row disagree with it."""

    severity: Severity = Severity.OK
    warning_streak: int = 0
    unknown_streak: int = 0
    critical_streak: int = 0

    @property
    def streaks(self) -> tuple[int, int, int]:
        """The streaks of all levels, lowest first."""
        return self.warning_streak, self.unknown_streak, self.critical_streak


@dataclass(frozen=True, slots=True)
class SeverityChange:
    """A change from one severity to another."""

    before: Severity
    after: Severity

    @property
    def is_worse(self) -> bool:
        """Whether the severity became worse."""
        return rank(self.after) > rank(self.before)

    @property
    def is_recovery(self) -> bool:
        """Whether the severity is ok again."""
        return self.after is Severity.OK


def advance(
    severity_state: SeverityState, measured: Severity, *, consecutive: int = 1, recovery: int = 1
) -> tuple[SeverityState, SeverityChange | None]:
    """Return the state after one more sample, and the change of severity, if any."""
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
