"""Record a sample: the monitor's state, its history and its incident in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import IntegrityError
from django.db.models import F

from chroniker.conf import conf as chroniker_conf
from chroniker.db.alias import atomic
from chroniker.db.transactions import run_transaction
from chroniker.models import Job
from chroniker_monitors.baselines import Histories
from chroniker_monitors.conf import conf
from chroniker_monitors.models import MonitorState, Probe, Sample
from chroniker_monitors.thresholds import Rules, SeverityChange, SeverityState, Thresholds

from . import incidents
from .heartbeats import measure_heartbeat
from .histories import local_hour, read_histories, stored_histories
from .measurement import Measurement, mask_secrets, measure_kind, unknown_measurement
from .outcome import Outcome, apply_measurement, evaluate_measurement
from .pruning import SAMPLES_BETWEEN_PRUNES, prune_samples


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
        return evaluate_now(job, measure_probe(probe), probe.thresholds, now)
    state = MonitorState.objects.filter(job=job, host="").first() or MonitorState(job=job)
    return measure_heartbeat(job, probe, state, now)


def evaluate_now(
    job: Job, measurement: Measurement, thresholds: Thresholds, now: datetime
) -> Measurement:
    """Compare a measurement that is not recorded with the history of this host."""
    if not thresholds.learns:
        return measurement
    host = chroniker_conf.HOSTNAME if job.every_host else ""
    histories = read_histories(job, host, now)
    return evaluate_measurement(
        measurement, thresholds, histories, local_hour(job, now)
    ).measurement


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


def missing_measurement(reason: str, error: str, seconds: float | None) -> Measurement:
    """The measurement of a check that ended before it measured."""
    return mask_measurement(unknown_measurement(f"{reason} {error}".strip(), seconds).sanitized())


def mask_measurement(measurement: Measurement) -> Measurement:
    """Mask the site's secrets in a measurement; an error may quote one."""
    return replace(
        measurement,
        message=mask_secrets(measurement.message),
        error=mask_secrets(measurement.error),
    )


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
    outcome = find_outcome(job, probe, state, measurement, now=now, immediate=immediate)
    MonitorState.objects.filter(pk=state.pk).update(
        **outcome.state_columns, last_run_id=run_id, **(extra_columns or {})
    )
    Sample.objects.create(job=job, host=state.host, at=now, **outcome.sample_columns)
    measurement, severity_state = outcome.measurement, outcome.severity_state
    reported_change = outcome.incident_change or incidents.unreported_change(
        job, state.host, severity_state.severity, measurement.severity
    )
    if reported_change:
        incidents.update_incident(
            job, probe, state.host, reported_change, measurement, now, run_id, outcome.series
        )
    return RecordedSample(measurement, severity_state, outcome.change)


def find_outcome(
    job: Job,
    probe: Probe,
    state: MonitorState,
    measurement: Measurement,
    *,
    now: datetime,
    immediate: bool = False,
) -> Outcome:
    """Return what to write for a measurement. Reads samples at most once an hour."""
    rules = Rules(probe.thresholds) if immediate else probe.rules
    if measurement.error and rules.thresholds.learns:  # there is nothing to compare
        histories: Histories = {}
        baseline_columns = {"baseline_hour": state.baseline_hour, "baselines": state.baselines}
    else:
        histories, baseline_columns = stored_histories(job, state, rules.thresholds, now)
    outcome = apply_measurement(
        state,
        measurement,
        rules,
        now=now,
        max_series=conf.MONITORS_MAX_SERIES,
        histories=histories,
        hour=local_hour(job, now),
    )
    return replace(outcome, state_columns=outcome.state_columns | baseline_columns)
