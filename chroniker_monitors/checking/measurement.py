"""The result of one measurement, and how to measure."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from chroniker.masking import Masker, site_secrets
from chroniker_monitors.enums import Operator, Severity
from chroniker_monitors.exceptions import ParamsInvalid, ProbeError, UnknownKind
from chroniker_monitors.probes.base import BaseProbe, Reading
from chroniker_monitors.probes.error_messages import clean_message, explain
from chroniker_monitors.probes.registry import build_probe
from chroniker_monitors.probes.time_limit import TimeLimitExceeded, time_limit
from chroniker_monitors.series import (
    SeriesValue,
    series_name,
    sort_worst_first,
    unique_names,
)
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
    series: tuple[SeriesValue, ...] | None = None
    """The values of the groups; None if the probe measured one value. ``value`` is the worst."""
    more_series: int = 0
    """Groups that were found but not measured."""

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Measurement:
        """Return it from what :meth:`dump` or ``dataclasses.asdict()`` gave.

        Raises KeyError, TypeError or ValueError.
        """
        series = fields["series"]
        if series is not None:
            series = tuple(
                SeriesValue(each["name"], each["value"], Severity(each["severity"]))
                for each in series
            )
        return cls(**{**fields, "severity": Severity(fields["severity"]), "series": series})

    @property
    def summary(self) -> str:
        """The error, the message or the value, whichever comes first. May have several lines."""
        if self.error:
            return self.error
        return self.message or ("" if self.value is None else f"{self.value:g} {self.unit}".strip())

    def dump(self) -> dict[str, object]:
        """Return it as JSON can hold it, for :meth:`from_dict`."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        if self.series is not None:
            fields["series"] = [asdict(each) for each in self.series]
        return fields

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
    value = 0.0
    try:
        with time_limit(timeout):
            reading = _checked(probe.run())
            if reading.series is None:
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
    unit = unit or (type(probe).unit if reading.unit is None else reading.unit)
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
    if reading.series is not None:
        return measure_groups(reading, thresholds, unit, latency)
    message = clean_message(reading.message, probe)
    return Measurement(severity, value, message, unit, latency).sanitized()


def measure_groups(
    reading: Reading, thresholds: Thresholds, unit: str, latency: float
) -> Measurement:
    """Evaluate each group. A value that is not a finite number is unknown for its group alone."""
    series = []
    for group, value in reading.series or ():
        name = mask_secrets(series_name(group))
        if math.isfinite(value):
            series.append(SeriesValue(name, float(value), thresholds.evaluate(value)))
        else:
            series.append(SeriesValue(name, None, Severity.UNKNOWN))
    return summarize_groups(
        Measurement(
            Severity.OK,
            unit=unit,
            latency_seconds=latency,
            series=unique_names(series),
            more_series=reading.more_series,
        ),
        thresholds,
    )


def summarize_groups(measurement: Measurement, thresholds: Thresholds) -> Measurement:
    """Set value, severity and message from the worst group."""
    series = list(sort_worst_first(measurement.series or (), thresholds))
    if not series:
        return replace(measurement, value=None, severity=Severity.OK, message=_("no groups"))
    number = len(series) + measurement.more_series
    message = ngettext(
        "%(name)s, the only group", "%(name)s, the worst of %(number)d groups", number
    ) % {"name": series[0].name, "number": number}
    return replace(measurement, value=series[0].value, severity=series[0].severity, message=message)


def mask_secrets(text: str) -> str:
    """Mask the site's secrets in a text."""
    return Masker(site_secrets()).mask_text(text) if text else text


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


def _checked(reading: object) -> Reading:
    if not isinstance(reading, Reading):
        raise ProbeError(f"The probe returned {reading!r:.80} instead of a Reading.")
    return reading


def _finite_value(reading: Reading) -> float:
    value: object = reading.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProbeError(f"The probe returned {value!r:.80}, which is not a number.")
    if not math.isfinite(value):
        raise ProbeError(f"The probe returned {value!r}, which is not a finite number.")
    return float(value)


def _sanitize(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode()
