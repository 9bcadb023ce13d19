"""One sample: what it makes of a monitor's state, its history and its incident, all or nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from chroniker.db.transactions import run_transaction
from chroniker.masking import Masker
from chroniker.models import Job
from chroniker_monitors.exceptions import ParamsInvalid, UnknownKind
from chroniker_monitors.models import MonitorState, Probe, Sample
from chroniker_monitors.models.state import MAX_RECENT_VALUES
from chroniker_monitors.probes import build
from chroniker_monitors.thresholds import SeverityChange, SeverityState, advance

from . import heartbeats, incidents, measuring
from .measurement import MAX_TEXT_LENGTH, Measurement, unknown_measurement

SAMPLES_BETWEEN_PRUNES = 100
"""Samples after which old ones are looked for."""
PRUNE_BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class RecordedSample:
    """What became of a sample."""

    measurement: Measurement
    severity_state: SeverityState
    change: SeverityChange | None


MeasureState = Callable[[MonitorState], Measurement]


def measure_and_record(
    job: Job, probe: Probe, host: str, *, now: datetime, run_id: int | None = None
) -> RecordedSample:
    """Measure and record. ``host`` is the host slot."""
    if probe.passive:
        # By the state as it is under the lock: a ping may come at the same moment.
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
    """Measure and record nothing."""
    if not probe.passive:
        return measure_probe(probe)
    state = MonitorState.objects.filter(job=job, host="").first() or MonitorState(job=job)
    return measure_heartbeat(job, probe, state, now)


def measure_probe(probe: Probe) -> Measurement:
    """Measure what the definition says."""
    return mask_measurement(
        measuring.measure_kind(
            probe.kind,
            probe.params,
            probe.thresholds,
            timeout=probe.timeout_seconds,
            unit=probe.unit,
        )
    )


def measure_heartbeat(job: Job, probe: Probe, state: MonitorState, now: datetime) -> Measurement:
    """What a heartbeat's state says at ``now``."""
    try:
        built: Any = build(probe.kind, probe.params)
    except (UnknownKind, ParamsInvalid) as error:
        return unknown_measurement(str(error))
    return heartbeats.evaluate_heartbeat(
        state,
        defined_at=job.created_at,
        limit_seconds=built.period_seconds + built.grace_seconds,
        warning=probe.warning,
        now=now,
    )


def mask_measurement(measurement: Measurement) -> Measurement:
    """Without the site's secrets, which an error may well quote."""
    return replace(
        measurement,
        message=mask_secrets(measurement.message),
        error=mask_secrets(measurement.error),
    )


def mask_secrets(text: str) -> str:
    """The same for any text."""
    if not text:
        return text
    from chroniker.masking import site_secrets

    return Masker(site_secrets()).mask_text(text)


def record_measurement(
    job: Job,
    probe: Probe,
    host: str,
    measure_state: MeasureState,
    *,
    now: datetime,
    run_id: int | None = None,
    extra_columns: dict[str, Any] | None = None,
    immediate: bool = False,
) -> RecordedSample:
    """Record what ``judge`` makes of the state, which is locked until all is written.

    ``facts`` are further columns of the state. ``at_once``: no other sample is waited for.
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
    """The state of a host slot, locked by a write (which SQLite needs first), made if missing."""
    mine = MonitorState.objects.filter(job=job, host=host)
    if not mine.update(samples_total=F("samples_total") + 1):
        try:
            with transaction.atomic():
                return MonitorState.objects.create(job=job, host=host, samples_total=1)
        except IntegrityError:  # somebody else was first, or the monitor has been deleted
            if not mine.update(samples_total=F("samples_total") + 1):
                raise
    return mine.get()


def write_sample(
    job: Job,
    probe: Probe,
    state: MonitorState,
    measurement: Measurement,
    *,
    now: datetime,
    run_id: int | None = None,
    extra_columns: dict[str, Any] | None = None,
    immediate: bool = False,
) -> RecordedSample:
    """Write a sample whose state is locked, in the caller's transaction."""
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


def prune_samples(job: Job, before: datetime) -> int:
    """Delete samples older than ``before`` in small transactions; how many.

    On every host slot that the monitor has had: nobody else looks after a host that is gone.
    """
    deleted = 0
    for host in MonitorState.objects.filter(job=job).values_list("host", flat=True):
        old = Sample.objects.for_placement(job.pk, host).older_than(before).order_by("at")
        while keys := list(old.values_list("pk", flat=True)[:PRUNE_BATCH_SIZE]):
            Sample.objects.filter(pk__in=keys).delete()
            deleted += len(keys)
    return deleted
