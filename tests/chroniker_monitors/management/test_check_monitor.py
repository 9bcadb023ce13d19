"""``check_monitor``: what it prints, records and exits with, by hand and in a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.models import JobState, Run
from chroniker.signals import run_finished
from chroniker_monitors.checking.recorder import SAMPLES_BETWEEN_PRUNES, measure_and_record
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests.factories import (
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_job,
    make_monitor,
    monitor_state,
    set_gauge,
)
from tests.support.types import RunTick

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CHRONIKER_RUN_ID", raising=False)
    yield


def run_manually(*args: Any, **options: Any) -> tuple[int, str]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("check_monitor", *args, stdout=out, **options)
    assert isinstance(ended.value.code, int)
    return ended.value.code, out.getvalue().strip()


@pytest.mark.parametrize(
    ("told", "code", "line"),
    [
        ("50 calm", 0, "volts OK: calm | value=50V;80;90"),
        ("85", 1, "volts WARNING: 85 V | value=85V;80;90"),
        ("95 hot | very\nhot", 2, "volts CRITICAL: hot / very hot | value=95V;80;90"),
    ],
)
def test_output_and_exit_code_follow_nagios_plugins(
    tmp_path: Path, told: str, code: int, line: str
) -> None:
    make_gauge_monitor(tmp_path, told, name="volts")
    assert run_manually("volts") == (code, line)


def test_a_failing_probe_is_unknown_and_not_zero(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "raise the wire is cut", name="volts")
    code, line = run_manually("volts")
    assert code == 3
    assert line.startswith("volts UNKNOWN: ")
    assert "the wire is cut" in line
    assert "value=" not in line
    state = monitor_state(monitor)
    assert (state.severity, state.value) == (Severity.UNKNOWN, None)
    assert "the wire is cut" in state.error


@pytest.mark.parametrize("told", ["nan", "inf", "-inf"])
def test_what_is_no_number_is_unknown(tmp_path: Path, told: str) -> None:
    monitor = make_gauge_monitor(tmp_path, told, name="volts")
    assert run_manually("volts")[0] == 3
    assert monitor_state(monitor).recent_values == [[None, 3]]


def test_parameters_that_no_kind_takes_are_unknown(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, name="volts")
    monitor.probe.kind = "no_such_kind"
    monitor.probe.save()
    code, line = run_manually("volts")
    assert code == 3
    assert "no_such_kind" in line


def test_an_unknown_name_is_said_with_code_3() -> None:
    job = make_job(name="nightly")
    for arguments in (["nightly"], ["--job-id", str(job.pk)]):
        with pytest.raises(CommandError, match="There is no monitor") as refused:
            call_command("check_monitor", *arguments)
        assert refused.value.returncode == 3


def test_a_dry_run_records_nothing(tmp_path: Path) -> None:
    make_gauge_monitor(tmp_path, "95", name="volts")
    assert run_manually("volts", "--dry-run")[0] == 2
    assert not MonitorState.objects.exists()
    assert not Sample.objects.exists()


def test_state_and_sample_agree(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "95 hot")
    run_manually(monitor.name)
    state, sample = monitor_state(monitor), Sample.objects.get()
    assert (state.value, state.severity, state.message, state.unit) == (95, 2, "hot", "V")
    assert (sample.value, sample.severity, sample.message, sample.host) == (95, 2, "hot", "")
    assert state.last_sample_at == sample.at == state.since
    assert state.latency_seconds is not None
    assert state.recent_values == [[95.0, 2]]
    assert state.samples_total == 1


def test_the_state_survives_between_processes(tmp_path: Path) -> None:
    """FFFF-S with three in a row: one change up and one recovery; FF-S: silence."""
    monitor = make_gauge_monitor(tmp_path, consecutive=3)
    seen = []
    for told in "FFSFFFFS":
        set_gauge(tmp_path, 95 if told == "F" else 50)
        run_manually(monitor.name)
        seen.append(Severity(monitor_state(monitor).severity).name[0])
    assert "".join(seen) == "OOOOOCCO"


def test_since_is_when_the_severity_was_reached(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, 95)
    run_manually(monitor.name)
    first = monitor_state(monitor).since
    run_manually(monitor.name)
    assert monitor_state(monitor).since == first
    set_gauge(tmp_path, 50)
    run_manually(monitor.name)
    assert monitor_state(monitor).since == monitor_state(monitor).last_sample_at


def test_a_secret_of_the_site_is_masked(tmp_path: Path, settings: Any) -> None:
    settings.BROKER_PASSWORD = "hunter2hunter2"
    monitor = make_gauge_monitor(tmp_path, "raise amqp://me:hunter2hunter2@queue refused")
    _, line = run_manually(monitor.name)
    assert "hunter2" not in line
    assert "refused" in line
    assert "hunter2" not in monitor_state(monitor).error + Sample.objects.get().error


def test_a_long_message_is_cut_and_not_refused(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, "95 " + "ä" * 5000)
    assert run_manually(monitor.name)[0] == 2
    assert len(monitor_state(monitor).message) == 500


def test_old_samples_go(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path, sample_days=2)
    now = utc_now()
    Sample.objects.bulk_create(
        Sample(job_id=monitor.pk, at=now - timedelta(hours=hours), severity=0)
        for hours in range(1, 96)
    )
    MonitorState.objects.create(job_id=monitor.pk, samples_total=SAMPLES_BETWEEN_PRUNES - 1)
    MonitorState.objects.create(job_id=monitor.pk, host="gone")
    Sample.objects.create(job_id=monitor.pk, host="gone", at=now - timedelta(days=9), severity=0)
    run_manually(monitor.name)
    oldest = Sample.objects.order_by("at").first()
    assert oldest is not None
    assert now - oldest.at < timedelta(days=2, minutes=1)
    assert Sample.objects.count() == 48  # 47 whole hours and the new one


def test_it_costs_few_queries(tmp_path: Path, django_assert_max_num_queries: Any) -> None:
    monitor = make_gauge_monitor(tmp_path)
    run_manually(monitor.name)
    with django_assert_max_num_queries(8):  # with the savepoint around them in a test
        run_manually(monitor.name)


def test_a_rename_changes_nothing_else(tmp_path: Path) -> None:
    monitor = make_gauge_monitor(tmp_path)
    Monitor.objects.filter(pk=monitor.pk).update(name='new "name" -x')
    assert run_manually(*Monitor.objects.get().args.split())[0] == 0


# --- in a run ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("told", ["50", "85", "95"])
def test_a_run_succeeds_whatever_it_measures(tmp_path: Path, run_tick: RunTick, told: str) -> None:
    monitor = make_gauge_monitor(tmp_path, told)
    run_tick(only=frozenset({monitor.pk}), force=True)
    run = Run.objects.get()
    assert (run.status, run.error) == ("succeeded", "")
    state = monitor_state(monitor)
    assert (state.value, state.last_run_id) == (float(told), run.pk)


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
    ("told", "status", "word"),
    [
        ("kill", "failed", "SIGKILL"), ("exit 0", "succeeded", "without a sample"),
        ("sleep 60", "timed_out", ""),
    ],
)  # fmt: skip
def test_a_probe_that_was_killed_is_unknown(
    tmp_path: Path, run_tick: RunTick, told: str, status: str, word: str
) -> None:
    monitor = make_gauge_monitor(tmp_path, told, timeout_seconds=300)
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
    assert run_manually(monitor.name)[0] == 0
    assert monitor_state(monitor, "web2").samples_total == 2


def test_another_jobs_run_is_no_run_of_the_monitor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor, job = make_gauge_monitor(tmp_path, 95), make_job()
    run = Run.objects.create(job=job, scheduled_for=utc_now())
    monkeypatch.setitem(os.environ, "CHRONIKER_RUN_ID", str(run.pk))
    assert run_manually(monitor.name)[0] == 2
    assert monitor_state(monitor).last_run_id is None


def test_a_check_is_not_missed_where_another_came_right_after_it(client: Client) -> None:
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
def test_a_fresh_interpreter_knows_that_it_is_a_run(
    tmp_path: Path, run_tick: RunTick, settings: Any
) -> None:
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
