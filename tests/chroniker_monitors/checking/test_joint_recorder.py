"""What a batch records is what single checks record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from chroniker.batches import BatchEnd
from chroniker.enums import RunStatus
from chroniker.models import Incident
from chroniker_monitors.checking.joint_recorder import record_ends
from chroniker_monitors.checking.measurement import Measurement, unknown_measurement
from chroniker_monitors.checking.pruning import PRUNE_BATCH_SIZE, SAMPLES_BETWEEN_PRUNES
from chroniker_monitors.checking.receivers import record_missing_measurement
from chroniker_monitors.checking.recorder import record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import NOON, make_heartbeat_monitor, make_monitor, make_run, monitor_state

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
SAMPLE_COLUMNS = ("at", "value", "severity", "message", "error", "series")
VALUES = {Severity.OK: 50.0, Severity.WARNING: 85.0, Severity.CRITICAL: 95.0}


def measured(severity: Severity) -> Measurement:
    if severity is Severity.UNKNOWN:
        return unknown_measurement("the wire is cut", 0.5)
    return Measurement(severity, VALUES[severity], f"it is {severity.name}", "V", 0.25)


def end_of(
    monitor: Monitor,
    measurement: Measurement | None,
    at: Any,
    status: str = "succeeded",
    **run: Any,
) -> BatchEnd:
    run = {"started_at": at, "ended_at": at} | run
    row = make_run(monitor, status=status, scheduled_for=at, **run)
    payload = None
    if measurement is not None:
        payload = {"at": at.isoformat(), "measurement": asdict(measurement)}
    return BatchEnd(monitor, row, RunStatus(status), row.error, 1.5, payload, at)


def record(ends: Sequence[BatchEnd]) -> None:
    with transaction.atomic():
        record_ends(ends)


def facts_of(monitor: Monitor) -> dict[str, Any]:
    state = {
        field.name: getattr(monitor_state(monitor), field.name)
        for field in MonitorState._meta.concrete_fields
        if field.name not in ("id", "job", "last_run_id")
    }
    samples = Sample.objects.filter(job=monitor.pk).order_by("at")
    incidents = Incident.objects.filter(job=monitor.pk).order_by("pk")
    columns = ("severity", "summary", "opened_at", "resolved_at", "resolution", "occurrences")
    return {
        "state": state,
        "samples": list(
            samples.values_list("at", "value", "severity", "message", "error", "series")
        ),
        "incidents": list(incidents.values_list(*columns)),
    }


@pytest.mark.slow
def test_batch_and_single_checks_agree() -> None:
    """For any measurements, streaks, and monitors of the batch."""

    @settings(max_examples=15)
    @given(
        st.lists(
            st.lists(st.sampled_from(Severity), min_size=1, max_size=8), min_size=1, max_size=3
        ),
        st.integers(1, 3),
        st.integers(1, 3),
    )
    def check(histories: list[list[Severity]], consecutive: int, recovery: int) -> None:
        fields = {"consecutive": consecutive, "recovery": recovery}
        pairs = [(make_monitor(**fields), make_monitor(**fields), each) for each in histories]
        for number in range(max(map(len, histories))):
            at = NOON + number * MINUTE
            ends = []
            for together, alone, history in pairs:
                if number >= len(history):
                    continue
                measurement = measured(history[number])
                ends.append(end_of(together, measurement, at))
                record_measurement(
                    alone, alone.probe, "", lambda state, m=measurement: m, now=at,
                    run_id=end_of(alone, measurement, at).run.pk,
                )  # fmt: skip
            record(ends)
        for together, alone, _ in pairs:
            assert facts_of(together) == facts_of(alone)

    check()


@pytest.mark.parametrize("status", ["failed", "timed_out", "lost", "stopped", "interrupted"])
def test_check_that_ended_without_a_measurement_is_recorded_as_a_single_one(status: str) -> None:
    together, alone = make_monitor(), make_monitor()
    end = end_of(together, None, NOON, status, error="Killed.", duration_seconds=1.5)
    other = end_of(alone, None, NOON, status, error="Killed.", duration_seconds=1.5)
    record([end])
    record_missing_measurement(None, other.run, alone)
    if status in ("stopped", "interrupted"):
        assert not Sample.objects.exists()
    else:
        assert facts_of(together) == facts_of(alone)
        assert monitor_state(together).severity == Severity.UNKNOWN


def test_ping_that_came_in_the_meantime_is_not_overwritten() -> None:
    monitor = make_heartbeat_monitor()
    record_measurement(
        monitor, monitor.probe, "", lambda state: measured(Severity.OK), now=NOON + MINUTE
    )
    record([end_of(monitor, None, NOON, "lost")])
    assert monitor_state(monitor).severity == Severity.OK
    assert Sample.objects.count() == 1


def test_incident_of_a_bad_monitor_that_was_withdrawn_opens_again() -> None:
    monitor, other = make_monitor(), make_monitor()
    for number in range(2):
        at = NOON + number * MINUTE
        record([end_of(each, measured(Severity.CRITICAL), at) for each in (monitor, other)])
        if number == 0:
            Incident.objects.filter(job=monitor.pk).update(resolved_at=at)
    assert Incident.objects.filter(job=monitor.pk).open().count() == 1
    assert Incident.objects.filter(job=other.pk).count() == 1


def test_each_placement_has_its_own_state() -> None:
    monitor = make_monitor(hostname="*")
    ends = [
        end_of(monitor, measured(severity), NOON, host=host)
        for host, severity in (("web1", Severity.OK), ("web2", Severity.CRITICAL))
    ]
    record(ends)
    assert monitor_state(monitor, "web1").severity == Severity.OK
    assert monitor_state(monitor, "web2").severity == Severity.CRITICAL


def test_number_of_statements_does_not_depend_on_the_number_of_monitors(
    django_assert_max_num_queries: Any,
) -> None:
    from django.db import connection

    monitors = [make_monitor() for _ in range(30)]
    record([end_of(monitor, measured(Severity.OK), NOON) for monitor in monitors])
    ends = [end_of(monitor, measured(Severity.OK), NOON + MINUTE) for monitor in monitors]
    with CaptureQueriesContext(connection) as few, transaction.atomic():
        record_ends(ends[:2])
    with CaptureQueriesContext(connection) as many, transaction.atomic():
        record_ends(ends[2:])
    assert len(few) == len(many) <= 7


def test_old_samples_are_deleted_with_many_monitors(
    django_capture_on_commit_callbacks: Any,
) -> None:
    monitors = [make_monitor(sample_days=2) for _ in range(3)]
    old = NOON - timedelta(days=3)
    record([end_of(monitor, measured(Severity.OK), old) for monitor in monitors])
    for monitor in monitors:  # the next sample is the one after which old ones are deleted
        number = -(monitor.pk + 1) % SAMPLES_BETWEEN_PRUNES
        MonitorState.objects.filter(job=monitor.pk).update(samples_total=number)
    ends = [end_of(monitor, measured(Severity.OK), NOON) for monitor in monitors[:2]]
    with django_capture_on_commit_callbacks(execute=True):
        record(ends)
    left = Sample.objects.order_by("job", "at").values_list("job", "at")
    first, second, third = monitors
    assert list(left) == [(first.pk, NOON), (second.pk, NOON), (third.pk, old)]


def test_many_old_samples_are_deleted_a_little_with_each_batch(
    django_capture_on_commit_callbacks: Any, monkeypatch: Any
) -> None:
    """A scheduler that deletes them all renews no lease in the meantime."""
    monkeypatch.setattr("chroniker_monitors.checking.pruning.PRUNE_SECONDS", 0)
    monitor, other = make_monitor(sample_days=2), make_monitor()
    Sample.objects.bulk_create(
        Sample(job_id=monitor.pk, at=NOON - timedelta(days=3), severity=0)
        for _ in range(2 * PRUNE_BATCH_SIZE + 1)
    )
    number = -(monitor.pk + 1) % SAMPLES_BETWEEN_PRUNES
    MonitorState.objects.create(job=monitor, samples_total=number)
    left = []
    for each in (monitor, other, other, other):
        with django_capture_on_commit_callbacks(execute=True):
            record([end_of(each, measured(Severity.OK), NOON + len(left) * MINUTE)])
        left.append(Sample.objects.filter(job=monitor.pk).count() - 1)
    assert left == [PRUNE_BATCH_SIZE + 1, 1, 0, 0]


@pytest.mark.parametrize("operator", [">", "unusual"])
def test_batch_and_single_checks_agree_about_groups(operator: str) -> None:
    together, alone = (
        make_monitor(operator=operator, warning=2, critical=4, recovery=2, timezone="UTC")
        for _ in range(2)
    )
    for monitor in (together, alone):
        Sample.objects.bulk_create(
            Sample(
                job_id=monitor.pk, at=NOON - timedelta(weeks=week) + minute * MINUTE, severity=0,
                series={"eu": [3 + minute / 60, 0]},
            )
            for week in range(1, 5)
            for minute in range(60)
        )  # fmt: skip
    history: list[dict[str, float] | None] = [
        {"eu": 1, "us": 1}, {"eu": 9, "us": 3}, {"eu": 9}, None, {"us": 9}, {"us": 1}, {"us": 1},
        {},
    ]  # fmt: skip
    for number, values in enumerate(history):
        at = NOON + number * MINUTE
        found = unknown_measurement("the wire is cut", 0.5)
        if values is not None:
            evaluate = together.probe.thresholds.evaluate
            series = tuple(SeriesValue(n, float(v), evaluate(v)) for n, v in values.items())
            found = Measurement(Severity.OK, unit="rows", series=series)
        sent = json.loads(json.dumps(asdict(found)))
        record([dataclasses.replace(
            end_of(together, found, at), payload={"at": at.isoformat(), "measurement": sent}
        )])  # fmt: skip
        record_measurement(alone, alone.probe, "", lambda state, m=found: m, now=at)
        assert facts_of(together) == facts_of(alone)
    assert Incident.objects.filter(job=together.pk).exists()
