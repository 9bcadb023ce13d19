"""Measuring what a probe's definition says, in this process; nothing is recorded here."""

from __future__ import annotations

from typing import Any

from chroniker_monitors.enums import Severity
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.probes import build, measure
from chroniker_monitors.thresholds import Thresholds

from .measurement import Measurement, unknown_measurement


def measure_kind(
    kind: str, params: Any, thresholds: Thresholds, *, timeout: float, unit: str = ""
) -> Measurement:
    """Measure once; whatever goes wrong is an unknown with the reason, never an exception."""
    try:
        probe = build(kind, params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown_measurement(str(error))
    measured = measure(probe, timeout=timeout)
    if measured.error or measured.value is None:
        why = measured.error or measured.message or "The probe measured nothing."
        return unknown_measurement(why, measured.latency_seconds).sanitized()
    value = float(measured.value)
    try:
        severity = thresholds.evaluate(value)
    except KeyError:
        return unknown_measurement(
            f"There is no operator {thresholds.operator!r}; save the monitor again."
        )
    if severity is Severity.UNKNOWN:
        return unknown_measurement("A threshold is no number (NaN); save the monitor again.")
    return Measurement(
        severity=severity,
        value=value,
        message=measured.message,
        unit=unit or measured.unit,
        latency_seconds=measured.latency_seconds,
    ).sanitized()
