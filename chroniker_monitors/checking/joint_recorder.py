"""Record what a batch has measured: states, samples and incidents, each in one statement.

The state machine and the columns are those of a single check (``recorder``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from chroniker.batches import BatchEnd, Payload
from chroniker.db.alias import on_commit
from chroniker.db.bulk import Increase, update_rows
from chroniker.enums import IncidentKind, RunStatus
from chroniker.models import Incident, Job
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import MonitorState, Probe, Sample
from chroniker_monitors.thresholds import SeverityChange, rank

from .heartbeats import measure_heartbeat
from .incidents import update_incident
from .measurement import Measurement
from .outcome import Outcome
from .pruning import SAMPLES_BETWEEN_PRUNES, backlog
from .receivers import MISSING_MEASUREMENT_REASONS
from .recorder import find_outcome, missing_measurement

Placement = tuple[int, str]
"""Primary key of the job, and the placement."""


@dataclass(frozen=True, slots=True)
class _Record:
    """A measurement to write."""

    job: Job
    probe: Probe
    state: MonitorState
    measurement: Measurement
    at: datetime
    run_id: int
    outcome: Outcome


def record_ends(ends: Sequence[BatchEnd]) -> None:
    """Write what the checks gave. Call it in a transaction that has written something."""
    probes = Probe.objects.in_bulk([end.job.pk for end in ends])
    known = [end for end in ends if end.job.pk in probes and _is_recorded(end)]
    states = _lock_states({_placement(end, probes[end.job.pk]) for end in known})
    records: list[_Record] = []
    for end in known:
        probe = probes[end.job.pk]
        state = states.get(_placement(end, probe))
        measured = _measure(end, probe, state) if state is not None else None
        if state is None or measured is None:
            continue
        measurement, at = measured
        outcome = find_outcome(end.job, probe, state, measurement, now=at)
        records.append(_Record(end.job, probe, state, outcome.measurement, at, end.run.pk, outcome))
    update_rows(MonitorState, [(record.state.pk, _columns(record)) for record in records])
    Sample.objects.bulk_create(
        [
            Sample(
                job_id=record.state.job_id,
                host=record.state.host,
                at=record.at,
                **record.outcome.sample_columns,
            )
            for record in records
        ]
    )
    _update_incidents(records)
    _prune_after_commit(records)


def _is_recorded(end: BatchEnd) -> bool:
    return end.payload is not None or end.status in MISSING_MEASUREMENT_REASONS


def _placement(end: BatchEnd, probe: Probe) -> Placement:
    return end.job.pk, "" if probe.passive else end.run.host


def _lock_states(placements: set[Placement]) -> dict[Placement, MonitorState]:
    """Lock the states, and create those that do not exist."""
    states = _read_states(placements)
    if missing := placements - states.keys():
        MonitorState.objects.bulk_create(
            [MonitorState(job_id=job, host=host) for job, host in sorted(missing)],
            ignore_conflicts=True,
        )
        states |= _read_states(missing)
    return states


def _read_states(placements: set[Placement]) -> dict[Placement, MonitorState]:
    jobs, hosts = {job for job, _ in placements}, {host for _, host in placements}
    # In the order of the keys, so that two that lock several states do not wait for each other. A
    # ping locks one, for a moment.
    rows = MonitorState.objects.filter(job__in=jobs, host__in=hosts).order_by("pk")
    states = {(state.job_id, state.host): state for state in rows.select_for_update()}
    return {place: state for place, state in states.items() if place in placements}


def _measure(
    end: BatchEnd, probe: Probe, state: MonitorState
) -> tuple[Measurement, datetime] | None:
    """The measurement and its time; None if one was recorded since."""
    payload = end.payload
    if payload is None:
        # A ping or a check by hand may have been recorded since.
        began = end.run.started_at or end.run.scheduled_for
        recorded = state.last_sample_at is not None and state.last_sample_at >= began
        if recorded or state.last_run_id == end.run.pk:
            return None
        reason = MISSING_MEASUREMENT_REASONS[RunStatus(end.status)]
        return missing_measurement(reason, end.error, end.seconds), end.ended_at
    if probe.passive:
        return measure_heartbeat(end.job, probe, state, end.ended_at), end.ended_at
    return load_measurement(payload)


def load_measurement(payload: Payload) -> tuple[Measurement, datetime]:
    """Read what a worker has measured, and when. Raises KeyError, TypeError or ValueError."""
    fields: dict[str, Any] = dict(payload["measurement"])  # type: ignore[call-overload]  # JSON
    return Measurement.from_dict(fields), datetime.fromisoformat(str(payload["at"]))


def _columns(record: _Record) -> dict[str, object]:
    return {
        **record.outcome.state_columns,
        "last_run_id": record.run_id,
        "samples_total": Increase(1),
    }


def _update_incidents(records: list[_Record]) -> None:
    """Update the incidents of monitors whose severity has changed, or was never reported."""
    unchanged = [
        record for record in records if not record.outcome.incident_change and _is_confirmed(record)
    ]
    reported: set[Placement] = set()
    if unchanged:
        reported = set(
            Incident.objects.open()
            .filter(job__in=[record.job.pk for record in unchanged], kind=IncidentKind.CONDITION)
            .values_list("job", "host")
        )
    for record in records:
        change, state = record.outcome.incident_change, record.state
        if change is None and _is_confirmed(record) and (state.job_id, state.host) not in reported:
            change = SeverityChange(Severity.OK, record.outcome.severity_state.severity)
        if change is not None:
            update_incident(
                record.job, record.probe, state.host, change, record.measurement, record.at,
                record.run_id, record.outcome.series,
            )  # fmt: skip


def _is_confirmed(record: _Record) -> bool:
    """Whether the monitor is not ok, and this sample is as bad; see ``unreported_change()``."""
    severity = record.outcome.severity_state.severity
    return severity is not Severity.OK and rank(record.measurement.severity) >= rank(severity)


def _prune_after_commit(records: list[_Record]) -> None:
    """Delete old samples of monitors that have recorded many since the last time."""

    def prune() -> None:
        for record in records:
            # Not all monitors that are always measured together at the same moment.
            number = record.state.samples_total + 1 + record.job.pk
            if number % SAMPLES_BETWEEN_PRUNES == 0:
                before = record.at - timedelta(days=record.probe.sample_days)
                backlog.add(record.job.pk, record.state.host, before)
        if backlog:
            backlog.prune()

    on_commit(prune)
