"""Monitors with groups: one state, one incident, many series."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from chroniker.models import Incident, Run
from chroniker_monitors.checking.measurement import Measurement, unknown_measurement
from chroniker_monitors.checking.past_samples import compare_rules, read_past_samples
from chroniker_monitors.checking.recorder import measure_and_record, record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.exposition.page import render_chroniker_page
from chroniker_monitors.models import Monitor, MonitorState, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import NOON, make_job, make_monitor, monitor_state

pytestmark = pytest.mark.django_db

HOSTILE = '<script>alert("x")</script> {{ 7*7 }} \'; DROP TABLE x; --\\'


def record(monitor: Monitor, values: dict[str, float] | None, minute: int = 0, **more: Any) -> None:
    """Record a measurement of these groups, or a failed one (None)."""
    if values is None:
        measurement = unknown_measurement("refused")
    else:
        evaluate = monitor.probe.thresholds.evaluate
        series = tuple(SeriesValue(name, v, evaluate(v)) for name, v in values.items())
        measurement = Measurement(Severity.OK, unit="rows", series=series, **more)
    record_measurement(
        monitor, monitor.probe, "", lambda state: measurement, now=NOON + timedelta(minutes=minute)
    )


def metric_lines(name: str) -> list[str]:
    text = render_chroniker_page()[0].decode()
    return [line for line in text.splitlines() if line.startswith(f"chroniker_monitor_{name}{{")]


def test_groups_of_a_model_are_recorded_with_the_monitor() -> None:
    job = make_job()
    for number, status in enumerate(["failed"] * 3 + ["succeeded"]):
        Run.objects.create(
            job=job, scheduled_for=NOON + timedelta(minutes=number), status=status, started_at=NOON
        )
    params = {"model": "chroniker.Run", "group_by": "status"}
    monitor = make_monitor("records", name="runs", params=params, warning=2)
    measure_and_record(monitor, monitor.probe, "", now=NOON)
    state, sample = monitor_state(monitor), Sample.objects.get()
    assert (state.severity, state.value, state.dropped_series) == (Severity.WARNING, 3, 0)
    assert state.message == "failed, the worst of 2 groups"
    assert [(s.name, s.value) for s in state.series_states if s.name] == [
        ("failed", 3), ("succeeded", 1),
    ]  # fmt: skip
    assert sample.series == {"failed": [3, 1], "succeeded": [1, 0]}
    incident = Incident.objects.get()
    assert incident.summary == "1 of 2 groups: failed 3 rows (> 2)"
    assert metric_lines("value") == [
        'chroniker_monitor_value{job_name="runs",series="failed"} 3.0',
        'chroniker_monitor_value{job_name="runs",series="succeeded"} 1.0',
    ]
    assert metric_lines("severity") == [
        'chroniker_monitor_severity{job_name="runs"} 1.0',
        'chroniker_monitor_severity{job_name="runs",series="failed"} 1.0',
        'chroniker_monitor_severity{job_name="runs",series="succeeded"} 0.0',
    ]
    assert metric_lines("dropped_series") == [
        'chroniker_monitor_dropped_series{job_name="runs"} 0.0'
    ]


def test_group_comes_and_goes_without_ghosts() -> None:
    """It appears, becomes bad, disappears, comes back: one incident each time, each resolved."""
    monitor = make_monitor(recovery=2)
    history = [{"us": 50}, {"us": 50, "eu": 95}, {"us": 50}, {"us": 50}, {"us": 50, "eu": 95},
               {"us": 50, "eu": 50}, {"us": 50, "eu": 50}, {}]  # fmt: skip
    seen = []
    for minute, values in enumerate(history):
        record(monitor, values, minute)
        shown = [line.partition('series="')[2][:2] for line in metric_lines("severity")[1:]]
        is_open = Incident.objects.filter(resolved_at=None).count()
        seen.append(("".join(shown), len(metric_lines("value")), is_open))
    assert seen == [
        ("us", 1, 0), ("euus", 2, 1), ("euus", 1, 1), ("us", 1, 0), ("euus", 2, 1),
        ("euus", 2, 1), ("euus", 2, 0), ("", 0, 0),
    ]  # fmt: skip
    assert Incident.objects.count() == 2


def test_incident_lists_the_groups_that_are_bad_now() -> None:
    monitor = make_monitor()
    summaries = []
    for minute, values in enumerate([
        {"eu": 95, "us": 50}, {"eu": 95, "us": 97}, {"eu": 50, "us": 85}, None, {"eu": 50},
    ]):  # fmt: skip
        record(monitor, values, minute)
        summaries.append((Incident.objects.get().summary, Incident.objects.get().severity))
    assert summaries == [
        ("1 of 2 groups: eu 95 rows (> 90)", "critical"),
        ("2 of 2 groups: us 97 rows (> 90), eu 95 rows (> 90)", "critical"),
        ("1 of 2 groups: us 85 rows (> 80)", "warning"),
        ("unknown: refused", "warning"),
        ("unknown: refused", "warning"),
    ]
    assert Incident.objects.get().resolution == "ok: none of 1 groups is bad"


def test_groups_beyond_the_limit_are_counted_and_bad_ones_kept(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_MAX_SERIES = 2
    monitor = make_monitor(name="m")
    record(monitor, {"a": 50, "b": 50, "c": 50, "z": 95}, more_series=6)
    state = monitor_state(monitor)
    assert [each.name for each in state.series_states if each.name] == ["a", "z"]
    assert state.dropped_series == 8
    assert metric_lines("dropped_series") == ['chroniker_monitor_dropped_series{job_name="m"} 8.0']


def test_hostile_names_stay_text() -> None:
    monitor = make_monitor(name="m")
    record(monitor, {HOSTILE: 95})
    assert HOSTILE in Incident.objects.get().summary
    escaped = HOSTILE.replace("\\", "\\\\").replace('"', '\\"')
    assert metric_lines("value") == [
        f'chroniker_monitor_value{{job_name="m",series="{escaped}"}} 95.0'
    ]
    assert list(read_past_samples(monitor, "", groups=1)[0].values or ()) == [HOSTILE]


def test_monitor_that_loses_its_groups_is_an_ordinary_one() -> None:
    monitor = make_monitor(name="m")
    record(monitor, {"eu": 95})
    plain = Measurement(Severity.OK, 50)
    record_measurement(
        monitor, monitor.probe, "", lambda state: plain, now=NOON + timedelta(minutes=1)
    )
    state = monitor_state(monitor)
    assert (state.severity, state.series, state.dropped_series) == (Severity.OK, [], None)
    assert metric_lines("value") == ['chroniker_monitor_value{job_name="m"} 50.0']
    assert Incident.objects.get().resolved_at is not None
    assert [s.value for s in read_past_samples(monitor, "")] == [50]


def test_backtest_of_stored_samples_finds_the_incidents_that_were_opened() -> None:
    monitor = make_monitor(consecutive=2, recovery=2)
    history: list[dict[str, float] | None] = [
        {"a": 50}, {"a": 95, "b": 50}, {"a": 95}, {"a": 95, "b": 95}, None, {"a": 50}, {"a": 50},
        {"a": 50}, {"b": 85}, {"b": 85}, {}, {}, {"a": 95}, {"a": 95},
    ]  # fmt: skip
    for minute, values in enumerate(history):
        record(monitor, values, minute)
    (comparison,) = compare_rules(monitor, monitor.probe.rules)
    opened = Incident.objects.order_by("opened_at").values_list("opened_at", "resolved_at")
    assert [(i.opened_at, i.ended_at) for i in comparison.stored.incidents] == list(opened)
    assert len(opened) == 3
    assert comparison.tested is comparison.stored


def test_backtest_reads_a_limited_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chroniker_monitors.checking.past_samples.MAX_VALUES", 6)
    monitor = make_monitor()
    for minute in range(5):
        record(monitor, {"a": 50, "b": 50}, minute)
    samples = read_past_samples(monitor, "", groups=2)
    assert [sample.at for sample in samples] == [
        NOON + timedelta(minutes=minute) for minute in (2, 3, 4)
    ]


def test_state_of_groups_survives_a_restart_of_the_process() -> None:
    monitor = make_monitor(consecutive=3)
    for minute in range(2):
        record(monitor, {"eu": 95}, minute)
    monitor = Monitor.objects.select_related("probe").get()
    assert MonitorState.objects.get().severity == Severity.OK
    record(monitor, {"eu": 95}, 2)
    assert MonitorState.objects.get().severity == Severity.CRITICAL
