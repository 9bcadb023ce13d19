"""Record a sample: the monitor's state, its history and its incident in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import IntegrityError
from django.db.models import F

from chroniker.db.alias import atomic
from chroniker.db.transactions import run_transaction
from chroniker.masking import Masker, site_secrets
from chroniker.models import Job
from chroniker_monitors.models import MonitorState, Probe, Sample
from chroniker_monitors.models.state import MAX_RECENT_VALUES
from chroniker_monitors.thresholds import SeverityChange, SeverityState, advance

from . import incidents
from .heartbeats import measure_heartbeat
from .measurement import MAX_TEXT_LENGTH, Measurement, measure_kind

SAMPLES_BETWEEN_PRUNES = 100
"""Old samples are deleted each time this many new ones have been recorded."""
PRUNE_BATCH_SIZE = 500
"""Samples deleted by one statement."""


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """A recorded sample and the state that it led to."""

    measurement: Measurement
    severity_state: SeverityState
    change: SeverityChange | None
    """None if the severity of the state is still the same."""


MeasureState = Callable[[MonitorState], Measurement]
"""Measures from the locked state."""


def measure_and_record(
    job: Job, probe: Probe, host: str, *, now: datetime, run_id: int | None = None
) -> RecordedSample:
    """Measure and record. ``host`` is the placement."""
    if probe.passive:
        # Measured from the locked state, because a ping may arrive at the same moment.
        return record_measurement(
            job,
            probe,
            "",
            lambda state: measure_heartbeat(job, probe, state, now),
            now=now,
            run_id=run_id,
        )
    measurement = measure_probe(probe)
    return record_measurement(job, probe, host, lambda state: measurement, now=now, run_id=run_id)


def measure_only(job: Job, probe: Probe, *, now: datetime) -> Measurement:
    """Measure without recording anything."""
    if not probe.passive:
        return measure_probe(probe)
    state = MonitorState.objects.filter(job=job, host="").first() or MonitorState(job=job)
    return measure_heartbeat(job, probe, state, now)


def measure_probe(probe: Probe) -> Measurement:
    """Measure an active probe from its stored definition."""
    return mask_measurement(
        measure_kind(
            probe.kind,
            probe.params,
            probe.thresholds,
            timeout=probe.timeout_seconds,
            unit=probe.unit,
        )
    )


def mask_measurement(measurement: Measurement) -> Measurement:
    """Mask the site's secrets in a measurement; an error may quote one."""
    return replace(
        measurement,
        message=mask_secrets(measurement.message),
        error=mask_secrets(measurement.error),
    )


def mask_secrets(text: str) -> str:
    """Mask the site's secrets in a text."""
    return Masker(site_secrets()).mask_text(text) if text else text


def record_measurement(
    job: Job,
    probe: Probe,
    host: str,
    measure_state: MeasureState,
    *,
    now: datetime,
    run_id: int | None = None,
    extra_columns: Mapping[str, object] | None = None,
    immediate: bool = False,
) -> RecordedSample:
    """Lock the state, measure with ``measure_state``, and record, in one transaction.

    ``extra_columns`` are further columns of the state. ``immediate``: this one sample decides the
    severity, without waiting for others in a row.
    """

    def write() -> tuple[RecordedSample, int]:
        state = lock_state(job, host)
        return write_sample(
            job,
            probe,
            state,
            measure_state(state),
            now=now,
            run_id=run_id,
            extra_columns=extra_columns,
            immediate=immediate,
        ), state.samples_total

    recorded, number = run_transaction(write)
    if number % SAMPLES_BETWEEN_PRUNES == 0:
        prune_samples(job, now - timedelta(days=probe.sample_days))
    return recorded


def lock_state(job: Job, host: str) -> MonitorState:
    """Lock the state of a placement, or create it.

    The lock is a write that counts the sample. SQLite cannot upgrade a read transaction, so the
    write comes first.
    """
    rows = MonitorState.objects.filter(job=job, host=host)
    if not rows.update(samples_total=F("samples_total") + 1):
        try:
            with atomic():
                return MonitorState.objects.create(job=job, host=host, samples_total=1)
        except IntegrityError:  # another process created it first, or the monitor was deleted
            if not rows.update(samples_total=F("samples_total") + 1):
                raise
    return rows.get()


def write_sample(
    job: Job,
    probe: Probe,
    state: MonitorState,
    measurement: Measurement,
    *,
    now: datetime,
    run_id: int | None = None,
    extra_columns: Mapping[str, object] | None = None,
    immediate: bool = False,
) -> RecordedSample:
    """Write a sample in the caller's transaction; ``state`` comes from :func:`lock_state`."""
    ignore_streaks = immediate or probe.passive
    severity_state, change = advance(
        state.severity_state,
        measurement.severity,
        consecutive=1 if ignore_streaks else probe.consecutive,
        recovery=1 if ignore_streaks else probe.recovery,
    )
    MonitorState.objects.filter(pk=state.pk).update(
        severity=severity_state.severity,
        warning_streak=severity_state.warning_streak,
        unknown_streak=severity_state.unknown_streak,
        critical_streak=severity_state.critical_streak,
        since=now if change or state.since is None else state.since,
        value=measurement.value,
        measured_severity=measurement.severity,
        message=measurement.message[:MAX_TEXT_LENGTH],
        error=measurement.error[:MAX_TEXT_LENGTH],
        unit=measurement.unit[:20] or state.unit,
        latency_seconds=measurement.latency_seconds,
        last_sample_at=now,
        last_run_id=run_id,
        recent_values=[*state.recent_values, [measurement.value, int(measurement.severity)]][
            -MAX_RECENT_VALUES:
        ],
        **(extra_columns or {}),
    )
    Sample.objects.create(
        job=job,
        host=state.host,
        at=now,
        value=measurement.value,
        severity=measurement.severity,
        latency_seconds=measurement.latency_seconds,
        message=measurement.message[:MAX_TEXT_LENGTH],
        error=measurement.error[:MAX_TEXT_LENGTH],
    )
    reported_change = change or incidents.unreported_change(
        job, state.host, severity_state.severity, measurement.severity
    )
    if reported_change:
        incidents.update_incident(job, probe, state.host, reported_change, measurement, now, run_id)
    return RecordedSample(measurement, severity_state, change)


def delete_samples(job: int, host: str) -> None:
    """Delete the samples of a placement that is gone."""
    samples = Sample.objects.for_placement(job, host)
    while keys := list(samples.values_list("pk", flat=True)[:PRUNE_BATCH_SIZE]):
        Sample.objects.filter(pk__in=keys).delete()


def prune_samples(job: Job, before: datetime) -> int:
    """Delete samples older than ``before`` in small transactions and return their number.

    This covers every placement that the monitor ever had, including hosts that no longer exist.
    """
    deleted = 0
    for host in MonitorState.objects.filter(job=job).values_list("host", flat=True):
        old = Sample.objects.for_placement(job.pk, host).older_than(before).order_by("at")
        while keys := list(old.values_list("pk", flat=True)[:PRUNE_BATCH_SIZE]):
            Sample.objects.filter(pk__in=keys).delete()
            deleted += len(keys)
    return deleted
