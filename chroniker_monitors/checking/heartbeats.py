"""The measurement of a heartbeat: how long ago an outside job last reported success."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from chroniker.models import Job
from chroniker_monitors.enums import Operator, PingKind, Severity
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import MonitorState, Probe
from chroniker_monitors.probes import build_probe
from chroniker_monitors.probes.heartbeats import HeartbeatProbe
from chroniker_monitors.thresholds import Thresholds, rank

from .measurement import Measurement, unknown_measurement


def measure_heartbeat(job: Job, probe: Probe, state: MonitorState, now: datetime) -> Measurement:
    """Measure a heartbeat from its state; unknown if its parameters are invalid."""
    try:
        heartbeat = build_probe(probe.kind, probe.params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown_measurement(str(error))
    assert isinstance(heartbeat, HeartbeatProbe)
    return evaluate_heartbeat(
        state,
        defined_at=job.created_at,
        limit_seconds=heartbeat.period_seconds + heartbeat.grace_seconds,
        warning=probe.warning,
        now=now,
    )


def evaluate_heartbeat(
    state: MonitorState,
    *,
    defined_at: datetime,
    limit_seconds: float,
    warning: float | None,
    now: datetime,
) -> Measurement:
    """Measure at ``now``. Before the first ping, the age is counted from ``defined_at``."""
    last = state.last_success_ping_at or defined_at
    age = max(0.0, (now - last).total_seconds())
    severity = Thresholds(Operator.ABOVE, warning, limit_seconds).evaluate(age)
    if state.last_ping_kind == PingKind.FAIL:
        severity = max(severity, Severity.CRITICAL, key=rank)
        message = describe_failure(state.last_ping_exit_code, state.last_ping_body)
    elif state.last_success_ping_at is None:
        message = _("no ping yet")
    else:
        message = _("last ping %(ago)s ago") % {"ago": _round_seconds(age)}
    if age > limit_seconds:
        late = _("late by %(late)s") % {"late": _round_seconds(age - limit_seconds)}
        message = f"{message}, {late}"
    return Measurement(value=age, severity=severity, message=message, unit="s")


def describe_failure(exit_code: int | None, body: str) -> str:
    """The message of a failure ping: what it reported, and the text that it sent."""
    text = _("the job reported a failure")
    if exit_code is not None:
        text = _("the job ended with exit code %(code)d") % {"code": exit_code}
    return f"{text}: {body.strip()}" if body.strip() else text


def _round_seconds(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))
