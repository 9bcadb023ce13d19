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
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from .baselines import Band, Baseline
from .enums import Operator, Severity

_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
    "==": operators.eq,
    "!=": operators.ne,
}

_ORDERED = (Operator.ABOVE, Operator.AT_LEAST, Operator.BELOW, Operator.AT_MOST)
"""The operators for which a worse value is further in one direction."""

SEVERITY_ORDER = (Severity.OK, Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL)
"""From best to worst."""


def rank(severity: Severity) -> int:
    """Return the level of a severity; 0 is ok."""
    return SEVERITY_ORDER.index(severity)


def evaluate(
    value: float,
    operator: str,
    warning: float | None,
    critical: float | None,
    baseline: Baseline | None = None,
) -> Severity:
    """Return the severity of ``value``. Raises KeyError for an unknown operator.

    It is UNKNOWN if the value or a threshold is NaN, because comparing with NaN is always false.
    ``baseline``: what is usual now; without it, no value is unusual.
    """
    exceeds = _is_outside(baseline) if operator == Operator.UNUSUAL else _COMPARISONS[operator]
    if (
        math.isnan(value)
        or (warning is not None and math.isnan(warning))
        or (critical is not None and math.isnan(critical))
    ):
        return Severity.UNKNOWN
    if critical is not None and exceeds(value, critical):
        return Severity.CRITICAL
    if warning is not None and exceeds(value, warning):
        return Severity.WARNING
    return Severity.OK


def _is_outside(baseline: Baseline | None) -> Callable[[float, float], bool]:
    if baseline is None:
        return lambda value, factor: False
    return lambda value, factor: value not in baseline.band(factor)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of a value, and how it is compared with them."""

    operator: str
    warning: float | None = None
    critical: float | None = None

    def evaluate(self, value: float, baseline: Baseline | None = None) -> Severity:
        """Return the severity of ``value``; see :func:`evaluate`."""
        return evaluate(value, self.operator, self.warning, self.critical, baseline)

    @property
    def learns(self) -> bool:
        """Whether the value is compared with its own history."""
        return self.operator == Operator.UNUSUAL

    def band(self, baseline: Baseline | None) -> Band | None:
        """Return the values that are not unusual; None if that is unknown or not asked for."""
        if baseline is None or not self.learns:
            return None
        factors = [factor for factor in (self.warning, self.critical) if factor is not None]
        return baseline.band(min(factors, default=1.0))

    def all_ok(self, values: Collection[float | None]) -> bool:
        """Whether all values are certainly ok; the usual case, and faster than each of them."""
        if self.operator not in _ORDERED or None in values:
            return False
        numbers = [value for value in values if value is not None]
        if not numbers:
            return True
        worst = (max if self.operator in (Operator.ABOVE, Operator.AT_LEAST) else min)(numbers)
        return self.evaluate(worst) is Severity.OK

    def badness(self, value: float | None) -> float:
        """Return a number that is higher for the worse of two values with the same severity."""
        if value is None:
            return -math.inf
        return -value if self.operator in (Operator.BELOW, Operator.AT_MOST) else value

    def warning_is_unreachable(self) -> bool:
        """Whether every value beyond the warning threshold is also critical."""
        if self.warning is None or self.critical is None:
            return False
        if self.operator in (">", ">=", Operator.UNUSUAL):
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
    def is_recovery(self) -> bool:
        """Whether the severity is ok again."""
        return self.after is Severity.OK


@dataclass(frozen=True, slots=True)
class Rules:
    """When a value is bad, and when that changes the severity."""

    thresholds: Thresholds
    consecutive: int = 1
    recovery: int = 1

    def advance(
        self, severity_state: SeverityState, measured: Severity
    ) -> tuple[SeverityState, SeverityChange | None]:
        """Return the state after one more sample; see :func:`advance`."""
        return advance(
            severity_state, measured, consecutive=self.consecutive, recovery=self.recovery
        )


def advance(
    severity_state: SeverityState, measured: Severity, *, consecutive: int = 1, recovery: int = 1
) -> tuple[SeverityState, SeverityChange | None]:
    """Return the state after one more sample, and the change of severity, if any."""
    if measured is severity_state.severity and not any(severity_state.streaks):
        return severity_state, None  # the usual case: it agrees at every level
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
