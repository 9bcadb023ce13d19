"""The result of one measurement, and how to measure."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chroniker_monitors.enums import Operator, Severity
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError, UnknownKind
from chroniker_monitors.probes.base import BaseProbe, Reading
from chroniker_monitors.probes.error_messages import clean_message, explain
from chroniker_monitors.probes.registry import build_probe
from chroniker_monitors.probes.time_limit import TimeLimitExceeded, time_limit
from chroniker_monitors.thresholds import Thresholds

MAX_TEXT_LENGTH = 500
"""The maximum length of a message or an error in a sample, in characters."""
NO_THRESHOLDS = Thresholds(Operator.ABOVE)


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value with its severity; or UNKNOWN with an error."""

    severity: Severity
    value: float | None = None
    message: str = ""
    unit: str = ""
    latency_seconds: float | None = None
    error: str = ""
    """Why there is no value. Empty if there is one."""

    @property
    def has_value(self) -> bool:
        """Whether the probe returned a value. A critical value is a value."""
        return not self.error

    @property
    def summary(self) -> str:
        """The error, the message or the value, whichever comes first. May have several lines."""
        if self.error:
            return self.error
        return self.message or ("" if self.value is None else f"{self.value:g} {self.unit}".strip())

    def sanitized(self) -> Measurement:
        """A copy that every database accepts: no NaN, no infinity, no NUL in text."""
        measurement = replace(self, message=_sanitize(self.message), error=_sanitize(self.error))
        if measurement.value is not None and not math.isfinite(measurement.value):
            error = (
                measurement.error
                or f"The probe returned {measurement.value}, which is not a finite number."
            )
            return replace(measurement, value=None, severity=Severity.UNKNOWN, error=error)
        return measurement


def unknown_measurement(error: str, latency_seconds: float | None = None) -> Measurement:
    """A failed measurement: UNKNOWN, with the reason."""
    return Measurement(Severity.UNKNOWN, error=error, latency_seconds=latency_seconds)


def measure(
    probe: BaseProbe,
    thresholds: Thresholds = NO_THRESHOLDS,
    *,
    timeout: float,
    unit: str = "",
) -> Measurement:
    """Run a probe for at most ``timeout`` seconds and evaluate its value.

    Every failure becomes an unknown measurement; only KeyboardInterrupt is raised.
    """
    timeout = max(timeout, 0.001)
    started = time.monotonic()
    reading: Reading | None = None
    error = ""
    try:
        with time_limit(timeout):
            reading = probe.run()
            value = _finite_value(reading)
    except TimeLimitExceeded:
        error = f"No result within {timeout:g} s."
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        error = explain(raised)
        if time.monotonic() - started >= timeout * 0.9:
            # A library that is interrupted by the limit raises its own error.
            error = f"No result within {timeout:g} s. ({error})"
    latency = time.monotonic() - started
    if not error and latency > 2 * timeout:
        # Outside the main thread, or a probe that catches every exception.
        error = f"No result within {timeout:g} s; it took {latency:.1f} s."
    if error or reading is None:
        return unknown_measurement(clean_message(error, probe), latency).sanitized()
    try:
        severity = thresholds.evaluate(value)
    except KeyError:
        return unknown_measurement(
            f"Unknown operator {thresholds.operator!r}; save the monitor again.", latency
        )
    if severity is Severity.UNKNOWN:
        return unknown_measurement(
            "A threshold is not a number (NaN); save the monitor again.", latency
        )
    return Measurement(
        severity,
        value,
        clean_message(reading.message, probe),
        unit or reading.unit or type(probe).unit,
        latency,
    ).sanitized()


def measure_kind(
    kind: str,
    params: Mapping[str, object],
    thresholds: Thresholds = NO_THRESHOLDS,
    *,
    timeout: float,
    unit: str = "",
) -> Measurement:
    """Measure from a stored kind and its parameters, which may no longer be valid."""
    try:
        probe = build_probe(kind, params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown_measurement(clean_message(str(error)))
    return measure(probe, thresholds, timeout=timeout, unit=unit)


def _finite_value(reading: object) -> float:
    if not isinstance(reading, Reading):
        raise ProbeError(f"The probe returned {reading!r:.80} instead of a Reading.")
    value: object = reading.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProbeError(f"The probe returned {value!r:.80}, which is not a number.")
    if not math.isfinite(value):
        raise ProbeError(f"The probe returned {value!r}, which is not a finite number.")
    return float(value)


def _sanitize(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()
