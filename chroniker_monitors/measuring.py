"""Measuring what a probe's definition says, in this process; nothing is recorded here."""

from __future__ import annotations

from typing import Any

from .enums import Severity
from .exceptions import ParamsInvalid, UnknownKind
from .probes import build, measure
from .taken import Taken, unknown
from .thresholds import Thresholds


def take(
    kind: str, params: Any, thresholds: Thresholds, *, timeout: float, unit: str = ""
) -> Taken:
    """Measure once; whatever goes wrong is an unknown with the reason, never an exception."""
    try:
        probe = build(kind, params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown(str(error))
    measured = measure(probe, timeout=timeout)
    if measured.error or measured.value is None:
        why = measured.error or measured.message or "The probe measured nothing."
        return unknown(why, measured.latency_seconds).storable()
    value = float(measured.value)
    try:
        severity = thresholds.evaluate(value)
    except KeyError:
        return unknown(f"There is no operator {thresholds.operator!r}; save the monitor again.")
    if severity is Severity.UNKNOWN:
        return unknown("A threshold is no number (NaN); save the monitor again.")
    return Taken(
        severity=severity,
        value=value,
        message=measured.message,
        unit=unit or measured.unit,
        latency_seconds=measured.latency_seconds,
    ).storable()
