"""What was measured once, before it is recorded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .enums import Severity

TEXT_KEPT = 500
"""Characters of a message or an error that a sample keeps."""


@dataclass(frozen=True, slots=True)
class Taken:
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

    def storable(self) -> Taken:
        """Without what no database takes: a value that is no number, NUL in text."""
        taken = replace(self, message=_plain(self.message), error=_plain(self.error))
        if taken.value is not None and not math.isfinite(taken.value):
            error = taken.error or f"The probe measured {taken.value}, which is no number."
            return replace(taken, value=None, severity=Severity.UNKNOWN, error=error)
        return taken


def unknown(error: str, latency_seconds: float | None = None) -> Taken:
    """Nothing could be measured, and why."""
    return Taken(Severity.UNKNOWN, error=error, latency_seconds=latency_seconds)


def _plain(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()
