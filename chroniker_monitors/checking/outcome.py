"""What a measurement does to a monitor: its new state, its sample, its incident. Pure.

The state is only read, and nothing is written: the caller writes the columns, one by one or in
bulk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.translation import gettext as _

from chroniker_monitors.baselines import (
    MIN_SAMPLES,
    MIN_WEEKS,
    NO_HISTORY,
    Band,
    Histories,
    HourHistory,
    LocalHour,
)
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState
from chroniker_monitors.models.state import MAX_RECENT_VALUES
from chroniker_monitors.series import (
    WHOLE,
    SeriesState,
    SeriesStep,
    advance_series,
    evaluate_series,
)
from chroniker_monitors.thresholds import Rules, SeverityChange, SeverityState, Thresholds

from .measurement import MAX_TEXT_LENGTH, Measurement, summarize_groups


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A measurement with its final severity, and the bands that it was compared with."""

    measurement: Measurement
    bands: Mapping[str, Band]
    """By series; that of a monitor without groups is :data:`WHOLE`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to write."""

    measurement: Measurement
    severity_state: SeverityState
    change: SeverityChange | None
    """None if the severity of the monitor is still the same."""
    incident_change: SeverityChange | None
    """What to do to the incident. Not None either if another group is bad now."""
    series: tuple[SeriesState, ...]
    """The states of the groups; empty without groups."""
    state_columns: dict[str, object]
    """Columns of the state, without those of the run and of the baselines."""
    sample_columns: dict[str, object]
    """Columns of the sample, without its key and its time."""


def evaluate_measurement(
    measurement: Measurement, thresholds: Thresholds, histories: Histories, hour: LocalHour
) -> Evaluated:
    """Compare a measurement with its history, if the operator asks for that."""
    if measurement.error:
        return Evaluated(measurement, {})
    if measurement.series is not None:
        bands: Mapping[str, Band] = {}
        if thresholds.learns:
            series, bands = evaluate_series(measurement.series, thresholds, histories)
            measurement = replace(measurement, series=series)
        return Evaluated(summarize_groups(measurement, thresholds), bands)
    if not thresholds.learns:
        return Evaluated(measurement, {})
    if measurement.value is None:
        return Evaluated(measurement, {})
    history = histories.get(WHOLE, NO_HISTORY)
    band = thresholds.band(history.baseline)
    measurement = replace(
        measurement,
        severity=thresholds.evaluate(measurement.value, history.baseline),
        message=describe_history(history, band, measurement.value, hour),
    )
    return Evaluated(measurement, {} if band is None else {WHOLE: band})


def describe_history(history: HourHistory, band: Band | None, value: float, hour: LocalHour) -> str:
    """Say what is usual, or why that is not known yet."""
    words: dict[str, object] = {"days": _weekdays()[hour.weekday]}
    if band is not None:
        words |= {"low": format_bound(band.low), "high": format_bound(band.high)}
        words |= {"value": format_bound(value)}
        return _("Usually %(low)s to %(high)s at this hour on %(days)s; now %(value)s") % words
    if history.weeks < MIN_WEEKS:
        words |= {"found": history.weeks, "needed": MIN_WEEKS}
        text = _("No verdict yet: samples of this hour on %(found)d of %(needed)d %(days)s")
    else:
        words |= {"found": history.samples, "needed": MIN_SAMPLES}
        text = _("No verdict yet: %(found)d of %(needed)d samples of this hour on %(days)s")
    return text % words


def format_bound(number: float) -> str:
    """Format a number of a sentence: four digits, and none after the point above 100."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.4g}"


def _weekdays() -> list[str]:
    return [
        _("Mondays"), _("Tuesdays"), _("Wednesdays"), _("Thursdays"), _("Fridays"),
        _("Saturdays"), _("Sundays"),
    ]  # fmt: skip


def apply_measurement(
    state: MonitorState,
    measurement: Measurement,
    rules: Rules,
    *,
    now: datetime,
    max_series: int,
    histories: Histories,
    hour: LocalHour,
) -> Outcome:
    """Apply a measurement to a state, which is not changed."""
    evaluated = evaluate_measurement(measurement, rules.thresholds, histories, hour)
    measurement, before = evaluated.measurement, state.severity_state
    grouped = measurement.series is not None or bool(measurement.error and state.has_groups)
    step: SeriesStep | None = None
    if grouped:
        step = advance_series(
            state.series_states if state.has_groups else (SeriesState(WHOLE, before),),
            measurement.series,
            rules,
            now=now,
            max_series=max_series,
            bands=evaluated.bands,
        )
        severity_state = step.worst
        change = _change(before, severity_state)
    else:
        severity_state, change = rules.advance(before, measurement.severity)
    return Outcome(
        measurement=measurement,
        severity_state=severity_state,
        change=change,
        incident_change=change or _series_change(step, severity_state),
        series=step.states if step else (),
        state_columns=_state_columns(state, evaluated, severity_state, change, step, now),
        sample_columns=_sample_columns(evaluated, step),
    )


def _change(before: SeverityState, after: SeverityState) -> SeverityChange | None:
    if before.severity is after.severity:
        return None
    return SeverityChange(before.severity, after.severity)


def _series_change(step: SeriesStep | None, after: SeverityState) -> SeverityChange | None:
    """Return a change that updates the list of bad groups in the incident."""
    if step is None or not step.changed or after.severity is Severity.OK:
        return None
    return SeverityChange(after.severity, after.severity)


def _state_columns(
    state: MonitorState,
    evaluated: Evaluated,
    severity_state: SeverityState,
    change: SeverityChange | None,
    step: SeriesStep | None,
    now: datetime,
) -> dict[str, object]:
    measurement, band = evaluated.measurement, evaluated.bands.get(WHOLE)
    recent = [*state.recent_values, [measurement.value, int(measurement.severity)]]
    return {
        "severity": severity_state.severity,
        "warning_streak": severity_state.warning_streak,
        "unknown_streak": severity_state.unknown_streak,
        "critical_streak": severity_state.critical_streak,
        "since": now if change or state.since is None else state.since,
        "value": measurement.value,
        "measured_severity": measurement.severity,
        "message": measurement.message[:MAX_TEXT_LENGTH],
        "error": measurement.error[:MAX_TEXT_LENGTH],
        "unit": state.unit if measurement.error else measurement.unit[:20],
        "latency_seconds": measurement.latency_seconds,
        "last_sample_at": now,
        "recent_values": recent[-MAX_RECENT_VALUES:],
        "expected_low": band.low if band else None,
        "expected_high": band.high if band else None,
        "series": [each.to_json() for each in step.states] if step else [],
        "dropped_series": step.dropped + measurement.more_series if step else None,
    }


def _sample_columns(evaluated: Evaluated, step: SeriesStep | None) -> dict[str, object]:
    measurement, band = evaluated.measurement, evaluated.bands.get(WHOLE)
    series: dict[str, list[float | None]] | None = None
    if step is not None:
        series = {}
        for each in step.kept:
            series[each.name] = [each.value, int(each.severity)]
            if (own := evaluated.bands.get(each.name)) is not None:
                series[each.name] += [own.low, own.high]
    return {
        "value": measurement.value,
        "severity": measurement.severity,
        "latency_seconds": measurement.latency_seconds,
        "message": measurement.message[:MAX_TEXT_LENGTH],
        "error": measurement.error[:MAX_TEXT_LENGTH],
        "expected_low": band.low if band else None,
        "expected_high": band.high if band else None,
        "series": series,
    }
