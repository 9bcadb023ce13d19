"""Checks of monitors in runs."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import JobState, Run
from chroniker.signals import run_finished
from chroniker_monitors.checking.check import CheckResult, check_monitor
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import measure_and_record
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests.factories import (
    NOON,
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_job,
    make_monitor,
    make_run,
    monitor_state,
    set_gauge,
)
from tests.support.runs import run_check_monitor
from tests.support.types import RunTick

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outside_a_run")]


def test_renaming_changes_nothing_else(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    Monitor.objects.filter(pk=monitor.pk).update(name='new "name" -x')
    assert run_check_monitor(*Monitor.objects.get().args.split())[0] == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("gauge_text", ["50", "85", "95"])
def test_run_succeeds_whatever_it_measures(
    tmp_path: Path, run_tick: RunTick, gauge_text: str
) -> None:
    monitor = make_gauge_monitor(tmp_path, gauge_text)
    run_tick(only=frozenset({monitor.pk}), force=True)
    run = Run.objects.get()
    assert (run.status, run.error) == ("succeeded", "")
    state = monitor_state(monitor)
    assert (state.value, state.last_run_id) == (float(gauge_text), run.pk)


@pytest.mark.django_db(transaction=True)
def test_run_fails_with_the_probe_error(tmp_path: Path, run_tick: RunTick) -> None:
    monitor = make_gauge_monitor(tmp_path, "raise the wire is cut")
    run_tick(only=frozenset({monitor.pk}), force=True)
    run = Run.objects.get()
    assert run.status == "failed"
    assert "the wire is cut" in run.error
    assert monitor_state(monitor).severity == Severity.UNKNOWN
    assert Sample.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("gauge_text", "status", "word"),
    [
        ("kill", "failed", "SIGKILL"), ("exit 0", "succeeded", "without a sample"),
        ("sleep 60", "timed_out", ""),
    ],
)  # fmt: skip
def test_killed_probe_is_unknown(
    tmp_path: Path, run_tick: RunTick, gauge_text: str, status: str, word: str
) -> None:
    monitor = make_gauge_monitor(tmp_path, gauge_text, timeout_seconds=300)
    Monitor.objects.filter(pk=monitor.pk).update(timeout_seconds=1, kill_grace_seconds=0)
    run_tick(only=frozenset({monitor.pk}), force=True)
    run = Run.objects.get()
    assert run.status == status
    state = monitor_state(monitor)
    assert (state.severity, state.value, state.last_run_id) == (Severity.UNKNOWN, None, run.pk)
    assert word in state.error
    assert Sample.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_each_host_has_a_state_of_its_own(tmp_path: Path, run_tick: RunTick, settings: Any) -> None:
    monitor = make_gauge_monitor(tmp_path, 95, hostname="*")
    settings.CHRONIKER_HOSTNAME = "web1"
    run_tick(only=frozenset({monitor.pk}), force=True)
    set_gauge(tmp_path, 50)
    settings.CHRONIKER_HOSTNAME = "web2"
    run_tick(only=frozenset({monitor.pk}), force=True)
    assert monitor_state(monitor, "web1").severity == Severity.CRITICAL
    assert monitor_state(monitor, "web2").severity == Severity.OK
    assert run_check_monitor(monitor.name)[0] == 0
    assert monitor_state(monitor, "web2").samples_total == 2


def test_run_of_another_job_is_not_a_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, job = make_gauge_monitor(tmp_path, 95), make_job()
    run = Run.objects.create(job=job, scheduled_for=utc_now())
    monkeypatch.setitem(os.environ, "CHRONIKER_RUN_ID", str(run.pk))
    assert run_check_monitor(monitor.name)[0] == 2
    assert monitor_state(monitor).last_run_id is None


def test_check_followed_by_another_is_still_recorded(client: Client) -> None:
    monitor = make_heartbeat_monitor()
    run = Run.objects.create(job_id=monitor.pk, scheduled_for=utc_now(), started_at=utc_now())
    measure_and_record(monitor, monitor.probe, "", now=utc_now(), run_id=run.pk)
    client.get(f"/ping/{monitor.probe.ping_uuid}/")
    Run.objects.filter(pk=run.pk).update(status="succeeded", ended_at=utc_now())
    run.refresh_from_db()
    run_finished.send(sender=Run, run=run, job=monitor)
    assert Sample.objects.count() == 2
    assert monitor_state(monitor).severity == Severity.OK


@pytest.mark.django_db(transaction=True)
def test_stopped_check_records_no_measurement(run_tick: RunTick) -> None:
    monitor = make_monitor()
    run = Run.objects.create(job_id=monitor.pk, scheduled_for=utc_now(), status="stopped")
    run_finished.send(sender=Run, run=run, job=monitor)
    assert not Sample.objects.exists()


@pytest.mark.one_database
@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_spawned_check_finds_its_run(tmp_path: Path, run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_START_METHOD = "spawn"
    monitor = make_gauge_monitor(tmp_path, 95)
    run_tick(only=frozenset({monitor.pk}), force=True)
    run = Run.objects.get()
    assert (run.status, monitor_state(monitor).last_run_id) == ("succeeded", run.pk)


@pytest.mark.django_db(transaction=True)
def test_monitors_run_on_their_schedule(tmp_path: Path, run_tick: RunTick) -> None:
    monitor = make_gauge_monitor(tmp_path, 95, schedule="@every 30s")
    run_tick()
    JobState.objects.filter(job=monitor.pk).update(next_run_at=utc_now() - timedelta(seconds=1))
    run_tick()
    assert monitor_state(monitor).severity == Severity.CRITICAL


# --- without processes ---


def line(measurement: Measurement, **fields: Any) -> str:
    monitor = make_monitor(name="volts", **fields)
    return CheckResult(monitor, measurement, in_run=False).line


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (Measurement(Severity.OK, 50.0, "calm", "V"), "volts OK: 50 V, calm | value=50V;80;90"),
        (Measurement(Severity.OK, 1234567.8), "volts OK: 1.23457e+06 | value=1.23457e+06;80;90"),
        (Measurement(Severity.OK, 0.0, unit="k B"), "volts OK: 0 k B | value=0kB;80;90"),
        (Measurement(Severity.UNKNOWN, error="cut\noff"), "volts UNKNOWN: cut off"),
    ],
)
def test_line_is_that_of_a_nagios_plugin(measurement: Measurement, text: str) -> None:
    assert line(measurement) == text


def test_line_leaves_missing_thresholds_empty() -> None:
    measurement = Measurement(Severity.OK, 5.0, "x")
    assert line(measurement, warning=None).endswith("value=5;;90")
    Monitor.objects.all().delete()
    assert line(measurement, critical=0.5).endswith("value=5;80;0.5")


def test_check_by_hand_is_recorded_and_belongs_to_no_run(tmp_path: Path, settings: Any) -> None:
    settings.CHRONIKER_HOSTNAME = "web1"
    for hostname, host in (("", ""), ("*", "web1")):
        monitor = make_gauge_monitor(tmp_path, 95, hostname=hostname)
        result = check_monitor(monitor, now=NOON)
        assert (result.in_run, result.measurement.value, result.monitor) == (False, 95, monitor)
        state = monitor_state(monitor, host)
        assert (state.last_sample_at, state.last_run_id) == (NOON, None)


def test_dry_run_only_measures(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, 95)
    result = check_monitor(monitor, now=NOON, dry_run=True)
    assert (result.in_run, result.measurement.severity) == (False, Severity.CRITICAL)
    assert not Sample.objects.exists()


@pytest.mark.parametrize(
    ("status", "in_run"), [("running", True), ("succeeded", False), ("lost", False)]
)
def test_check_in_a_run_is_recorded_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, in_run: bool
) -> None:
    monitor = make_gauge_monitor(tmp_path, hostname="*")
    run = make_run(monitor, host="web7", status=status)
    monkeypatch.setenv("CHRONIKER_RUN_ID", str(run.pk))
    assert check_monitor(monitor, now=NOON).in_run is in_run
    states = MonitorState.objects.values_list("host", "last_run_id")
    assert (("web7", run.pk) in states) is in_run
    assert not check_monitor(monitor, now=NOON, dry_run=True).in_run


@pytest.mark.parametrize("number", ["", "x", "-1", "9" * 9])
def test_environment_without_a_run_is_a_check_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setenv("CHRONIKER_RUN_ID", number)
    assert not check_monitor(make_gauge_monitor(tmp_path), now=NOON).in_run
