"""What a heartbeat measures: how long ago an outside job told that it ended well."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from chroniker_monitors.enums import Operator, PingKind, Severity
from chroniker_monitors.models import MonitorState
from chroniker_monitors.thresholds import Thresholds, rank

from .measurement import Measurement


def evaluate_heartbeat(
    state: MonitorState,
    *,
    defined_at: datetime,
    limit_seconds: float,
    warning: float | None,
    now: datetime,
) -> Measurement:
    """The reading at ``now``; one that was never pinged counts from when it was defined."""
    last = state.last_success_ping_at or defined_at
    age = max(0.0, (now - last).total_seconds())
    severity = Thresholds(Operator.ABOVE, warning, limit_seconds).evaluate(age)
    if state.last_ping_kind == PingKind.FAIL:
        severity = max(severity, Severity.CRITICAL, key=rank)
        message = describe_failure(state.last_ping_exit_code)
    elif state.last_success_ping_at is None:
        message = _("no ping yet")
    else:
        message = _("last ping %(ago)s ago") % {"ago": _round_seconds(age)}
    if age > limit_seconds:
        late = _("late by %(late)s") % {"late": _round_seconds(age - limit_seconds)}
        message = f"{message}, {late}"
    return Measurement(value=age, severity=severity, message=message, unit="s")


def describe_failure(exit_code: int | None) -> str:
    """In words, what a failing ping told."""
    if exit_code is None:
        return _("it told that it failed")
    return _("it ended with exit code %(code)d") % {"code": exit_code}


def _round_seconds(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
