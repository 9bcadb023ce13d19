"""What was measured once, before it is recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chroniker_monitors.enums import Severity

MAX_TEXT_LENGTH = 500
"""Characters of a message or an error that a sample keeps."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measurement and how bad it is."""

    severity: Severity
    value: float | None = None
    message: str = ""
    unit: str = ""
    latency_seconds: float | None = None
    error: str = ""
    """Why there is no value; empty where there is one."""

    @property
    def summary(self) -> str:
        """In a line or more: what a person has to know."""
        if self.error:
            return self.error
        return self.message or ("" if self.value is None else f"{self.value:g} {self.unit}".strip())

    def sanitized(self) -> Measurement:
        """Without what no database takes: a value that is no number, NUL in text."""
        measurement = replace(self, message=_sanitize(self.message), error=_sanitize(self.error))
        if measurement.value is not None and not math.isfinite(measurement.value):
            error = (
                measurement.error or f"The probe measured {measurement.value}, which is no number."
            )
            return replace(measurement, value=None, severity=Severity.UNKNOWN, error=error)
        return measurement


def unknown_measurement(error: str, latency_seconds: float | None = None) -> Measurement:
    """Nothing could be measured, and why."""
    return Measurement(Severity.UNKNOWN, error=error, latency_seconds=latency_seconds)


def _sanitize(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()
