"""Learned bands in checks: read once an hour, stored, explained, exported."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chroniker.models import Incident
from chroniker_monitors.checking.histories import read_histories
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.past_samples import compare_rules
from chroniker_monitors.checking.recorder import record_measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.exposition.page import render_chroniker_page
from chroniker_monitors.models import Monitor, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import make_monitor, monitor_state

pytestmark = pytest.mark.django_db

THURSDAY = datetime(2026, 5, 7, 12, tzinfo=UTC)


def make_learning_monitor(weeks: int = 4, groups: tuple[str, ...] = (), **fields: Any) -> Monitor:
    """A monitor that has measured 40 to 95 each Thursday at noon."""
    options = {"operator": "unusual", "warning": 1, "critical": 3, "name": "orders"} | fields
    monitor = make_monitor(timezone="UTC", **options)
    values = [40.0 + 55 * n / 59 for n in range(60)]
    Sample.objects.bulk_create(
        Sample(
            job_id=monitor.pk,
            at=THURSDAY - timedelta(weeks=week) + timedelta(minutes=minute),
            value=None if groups else value,
            series={name: [value * (n + 1), 0] for n, name in enumerate(groups)} or None,
            severity=0,
        )
        for week in range(1, weeks + 1)
        for minute, value in enumerate(values)
    )
    return monitor


def record(monitor: Monitor, value: float, now: datetime = THURSDAY) -> Measurement:
    measurement = Measurement(Severity.OK, value, unit="rows")
    return record_measurement(
        monitor, monitor.probe, "", lambda state: measurement, now=now
    ).measurement


def test_unusual_value_is_explained_exported_and_opens_an_incident() -> None:
    monitor = make_learning_monitor()
    found = record(monitor, 310)
    assert found.severity is Severity.CRITICAL
    assert found.message == "Usually 42.75 to 92.25 at this hour on Thursdays; now 310"
    state, sample = monitor_state(monitor), Sample.objects.latest("at")
    for row in (state, sample):
        assert row.expected_low == pytest.approx(42.75)
        assert row.expected_high == pytest.approx(92.25)
    page = render_chroniker_page()[0].decode()
    assert 'chroniker_monitor_expected_low{job_name="orders"} 42.75' in page
    assert 'chroniker_monitor_expected_high{job_name="orders"} 92.25' in page
    summary = Incident.objects.get().summary
    assert summary == f"310 rows: {found.message}"
    assert record(monitor, 60, THURSDAY + timedelta(minutes=1)).severity is Severity.OK
    assert Incident.objects.get().resolved_at is not None


def test_little_history_gives_no_verdict_and_says_so() -> None:
    monitor = make_learning_monitor(weeks=2)
    found = record(monitor, 1e6)
    assert found.severity is Severity.OK
    assert found.message == "No verdict yet: samples of this hour on 2 of 3 Thursdays"
    assert "chroniker_monitor_expected_low{" not in render_chroniker_page()[0].decode()
    other = record(monitor, 1e6, THURSDAY + timedelta(hours=2))
    assert other.message == "No verdict yet: samples of this hour on 0 of 3 Thursdays"


def test_history_is_read_once_an_hour() -> None:
    def queries(now: datetime) -> int:
        """How many queries read samples."""
        with CaptureQueriesContext(connection) as captured:
            record(monitor, 60, now)
        table = connection.ops.quote_name(Sample._meta.db_table)
        return sum(f"FROM {table}" in query["sql"] for query in captured.captured_queries)

    monitor = make_learning_monitor()
    hour = timedelta(hours=1)
    assert [
        queries(THURSDAY), queries(THURSDAY + hour / 60), queries(THURSDAY + hour / 2),
        queries(THURSDAY + hour), queries(THURSDAY + hour * 1.5),
    ] == [1, 0, 0, 1, 0]  # fmt: skip


def test_changed_factors_need_no_new_history_and_a_changed_operator_drops_it() -> None:
    monitor = make_learning_monitor()
    record(monitor, 60)
    monitor.probe.warning = 2
    record(monitor, 60, THURSDAY + timedelta(minutes=1))
    assert monitor_state(monitor).expected_high == pytest.approx(67.5 + 2 * 24.75)
    monitor.probe.operator = ">"
    record(monitor, 60, THURSDAY + timedelta(minutes=2))
    state = monitor_state(monitor)
    assert (state.baselines, state.baseline_hour, state.expected_low) == ({}, "", None)


def test_damaged_history_is_ignored() -> None:
    monitor = make_learning_monitor()
    record(monitor, 60)
    state = monitor_state(monitor)
    state.baselines = {"": ["x"]}
    state.save()
    assert record(monitor, 1e6, THURSDAY + timedelta(minutes=1)).severity is Severity.OK


def test_each_group_has_its_own_history() -> None:
    monitor = make_learning_monitor(groups=("eu", "us"))
    histories = read_histories(monitor, "", THURSDAY)
    assert {name: history.weeks for name, history in histories.items()} == {"eu": 4, "us": 4}
    series = (SeriesValue("eu", 150), SeriesValue("new", 9e9), SeriesValue("us", 150))
    measurement = Measurement(Severity.OK, unit="rows", series=series)
    record_measurement(monitor, monitor.probe, "", lambda state: measurement, now=THURSDAY)
    states = {each.name: each for each in monitor_state(monitor).series_states}
    assert (states["eu"].severity, states["us"].severity) == (Severity.CRITICAL, Severity.OK)
    assert states["new"].severity is Severity.OK
    assert states["new"].band is None
    band = states["us"].band
    assert band is not None
    assert (band.low, band.high) == (pytest.approx(85.5), pytest.approx(184.5))
    assert Incident.objects.get().summary == ("1 of 3 groups: eu 150 rows (usually 42.75 to 92.25)")
    page = render_chroniker_page()[0].decode()
    assert 'chroniker_monitor_expected_high{job_name="orders",series="us"} 184.5' in page
    stored = Sample.objects.latest("at").series
    assert json.loads(json.dumps(stored))["us"][:2] == [150, 0]


def test_backtest_says_what_the_check_said() -> None:
    monitor = make_learning_monitor()
    for minute, value in enumerate([60, 310, 60, 250, 60]):
        record(monitor, value, THURSDAY + timedelta(minutes=minute))
    (comparison,) = compare_rules(monitor, monitor.probe.rules)
    recorded = Incident.objects.order_by("opened_at").values_list("opened_at", "resolved_at")
    assert [(i.opened_at, i.ended_at) for i in comparison.stored.incidents][-2:] == list(recorded)
