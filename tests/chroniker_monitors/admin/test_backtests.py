"""The button "Backtest": unsaved thresholds against stored samples."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker_monitors.admin.backtests import MAX_INCIDENTS
from chroniker_monitors.admin.monitor_views import ProbeTest
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, Probe, Sample
from chroniker_monitors.series import SeriesValue
from tests.factories import (
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_host,
    make_monitor_state,
)
from tests.support.admin import form_data, gauge_data, monitor_admin_url, visible_text
from tests.support.types import SignIn

pytestmark = [pytest.mark.django_db, pytest.mark.one_database]


def add_samples(monitor: Monitor, values: list[float], host: str = "") -> datetime:
    """One sample an hour up to now, and the state that follows the last one."""
    now = utc_now().replace(microsecond=0)
    Sample.objects.bulk_create(
        Sample(
            job_id=monitor.pk, host=host, at=now - timedelta(hours=len(values) - 1 - number),
            value=value, severity=monitor.probe.evaluate(value),
        )
        for number, value in enumerate(values)
    )  # fmt: skip
    make_monitor_state(monitor, Severity.OK, value=values[-1], host=host, last_sample_at=now)
    return now


def backtest(client: Client, monitor: Monitor, data: dict[str, Any]) -> Any:
    return client.post(monitor_admin_url("change", monitor), data | {"_backtest": "1"})


def test_thresholds_of_the_form_are_compared_with_the_stored_ones(
    root: Client, tmp_path: Path
) -> None:
    monitor = make_gauge_monitor(tmp_path)
    add_samples(monitor, [50, 85, 50, 95, 95, 95, 50, 85])
    page = backtest(root, monitor, gauge_data(tmp_path, probe_warning="", probe_critical="90"))
    (placement,) = page.context["backtest"].placements
    stored, entered = placement.columns
    assert (stored.incidents, stored.critical, stored.hours_bad) == (3, 1, "4.0")
    assert (entered.incidents, entered.critical, entered.hours_bad) == (1, 1, "3.0")
    assert len(entered.strip) == 1
    assert "8 samples" in visible_text(page)
    monitor.probe.refresh_from_db()
    assert (monitor.probe.warning, monitor.probe.critical) == (80, 90)


def test_page_without_scripts_shows_the_result_and_the_typed_values(
    root: Client, tmp_path: Path
) -> None:
    monitor = make_gauge_monitor(tmp_path)
    add_samples(monitor, [50] * 5)
    page = backtest(root, monitor, gauge_data(tmp_path, description="typed"))
    assert "would have opened no incident" in visible_text(page)
    assert "typed" in page.content.decode()
    assert Monitor.objects.get().description == ""


def test_errors_in_the_form_are_reported_first(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    add_samples(monitor, [50] * 5)
    page = backtest(root, monitor, gauge_data(tmp_path, probe_warning="x"))
    assert page.context["backtest"] is None
    assert "Fix the errors in the form first." in visible_text(page)


def test_each_host_is_tested_and_the_list_is_limited(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, hostname="*")
    for host in ("web1", "web2"):
        make_host(host)
        add_samples(monitor, [50, 95] * (MAX_INCIDENTS + 1), host=host)
    page = backtest(root, monitor, gauge_data(tmp_path, hostname="*"))
    placements = page.context["backtest"].placements
    assert [each.host for each in placements] == ["web1", "web2"]
    assert len(placements[0].rows) == MAX_INCIDENTS
    assert placements[0].more == 1
    assert placements[0].rows[0].is_open


def test_monitor_without_samples_says_so(root: Client, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    assert "There are no samples yet." in visible_text(
        backtest(root, monitor, gauge_data(tmp_path))
    )
    page = root.post(
        f"{monitor_admin_url('add')}?kind=test_gauge", gauge_data(tmp_path) | {"_backtest": "1"}
    )
    assert "Save the monitor first." in visible_text(page) + page.context["backtest"].error
    assert Probe.objects.count() == 1


def test_heartbeat_has_no_thresholds_to_test(root: Client) -> None:
    monitor = make_heartbeat_monitor()
    assert b"_backtest" not in root.get(monitor_admin_url("change", monitor)).content
    page = backtest(root, monitor, form_data(param_period_seconds="60", param_grace_seconds="0"))
    assert "instead of thresholds" in page.context["backtest"].error


def test_reader_may_not_test(sign_in: SignIn, tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    add_samples(monitor, [95] * 3)
    reader = sign_in("view_monitor")
    assert b"_backtest" not in reader.get(monitor_admin_url("change", monitor)).content
    assert backtest(reader, monitor, gauge_data(tmp_path)).status_code == 403


def test_result_of_test_now_lists_the_worst_groups() -> None:
    series = [SeriesValue(f"g{number}", float(number)) for number in range(30)]
    result = ProbeTest(Measurement(Severity.OK, 29.0, unit="rows"), series)
    assert len(result.groups) == 20
    name, value, badge = result.groups[1]
    assert (name, value) == ("g1", "1 rows")
    assert "ok" in badge
