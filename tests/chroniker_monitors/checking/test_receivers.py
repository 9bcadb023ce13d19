"""Checks that end without a sample, modules imported before a fork, and deleted probes."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest

from chroniker.models import Incident, Job, Run
from chroniker.signals import pre_fork, run_finished
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Probe, Sample
from tests.factories import (
    NOON,
    make_due,
    make_heartbeat_monitor,
    make_incident,
    make_job,
    make_monitor,
    make_run,
    monitor_state,
)
from tests.support.types import RunTick
from tests.testapp.gauge import Gauge

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def finish(job: Job, status: str = "failed", **fields: Any) -> Run:
    """A run that started a minute before noon and ended at noon, as the scheduler reports it."""
    row = {"started_at": NOON - 60 * SECOND, "ended_at": NOON, "duration_seconds": 60.0}
    run = make_run(job, status=status, **row | fields)
    run_finished.send(sender=Run, run=run, job=job)
    return run


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        ("succeeded", "", "The check ended without a sample: the probe ended the process."),
        ("failed", "Killed.", "The check failed before it measured anything. Killed."),
        ("timed_out", "", "The check exceeded its timeout and was ended."),
        ("lost", "", "The check was lost: the process that supervised it died."),
    ],
)
def test_check_without_a_sample_is_unknown_with_the_reason(
    status: str, error: str, text: str
) -> None:
    monitor = make_monitor()
    run = finish(monitor, status, error=error)
    state, sample = monitor_state(monitor), Sample.objects.get()
    assert (state.severity, state.error, state.last_run_id) == (Severity.UNKNOWN, text, run.pk)
    assert (sample.at, sample.latency_seconds) == (NOON, 60.0)


def test_check_that_a_person_stops_records_nothing() -> None:
    finish(make_monitor(), "stopped")
    assert not Sample.objects.exists()


def test_run_of_a_job_that_is_not_a_monitor_records_nothing() -> None:
    finish(make_job())
    finish(make_job(failures_open_incidents=False))
    assert not MonitorState.objects.exists()


def test_placement_of_the_run_becomes_unknown() -> None:
    monitor = make_monitor(hostname="*")
    finish(monitor, host="web1")
    assert monitor_state(monitor, "web1").severity == Severity.UNKNOWN
    heartbeat = make_heartbeat_monitor()
    finish(heartbeat, host="web1")
    assert monitor_state(heartbeat, "").severity == Severity.UNKNOWN


@pytest.mark.parametrize(
    ("state", "recorded"),
    [
        ({"last_sample_at": NOON - 61 * SECOND}, True),
        ({"last_sample_at": NOON - 60 * SECOND}, False),
        ({"last_sample_at": NOON, "host": "web1"}, True),
    ],
)
def test_sample_since_the_start_of_the_run_is_enough(state: Any, recorded: bool) -> None:
    """A ping or a check by hand may have been recorded meanwhile."""
    monitor = make_monitor()
    MonitorState.objects.create(job_id=monitor.pk, **state)
    finish(monitor)
    assert Sample.objects.exists() == recorded


def test_run_that_never_started_counts_from_its_slot() -> None:
    monitor = make_monitor()
    MonitorState.objects.create(job_id=monitor.pk, last_sample_at=NOON - 30 * SECOND)
    finish(monitor, started_at=None, scheduled_for=NOON - 40 * SECOND)
    assert not Sample.objects.exists()
    finish(monitor, started_at=None, scheduled_for=NOON - 20 * SECOND)
    assert Sample.objects.count() == 1


def test_sample_of_the_run_itself_is_enough_at_any_time() -> None:
    monitor = make_monitor()
    run = make_run(monitor, status="failed", started_at=NOON, ended_at=NOON)
    MonitorState.objects.create(job_id=monitor.pk, last_run_id=run.pk, last_sample_at=NOON - SECOND)
    run_finished.send(sender=Run, run=run, job=monitor)
    assert not Sample.objects.exists()


def test_sample_of_another_monitor_is_not_enough() -> None:
    monitor, other = make_monitor(), make_monitor()
    MonitorState.objects.create(job_id=other.pk, last_sample_at=NOON)
    finish(monitor)
    assert Sample.objects.get().job_id == monitor.pk


def test_secret_in_the_error_of_the_run_is_masked(settings: Any) -> None:
    settings.SHOP_API_TOKEN = "correct-horse-battery"
    monitor = make_monitor()
    finish(monitor, error="refused correct-horse-battery")
    assert "refused ********" in monitor_state(monitor).error


def test_deleted_probe_withdraws_its_open_incident_of_the_condition() -> None:
    monitor = make_monitor()
    condition = make_incident(monitor, kind="condition")
    kept = make_incident(monitor, kind="overdue")
    other = make_incident(make_monitor(), kind="condition")
    Probe.objects.get(job=monitor.pk).delete()
    assert set(Incident.objects.open()) == {kept, other}
    condition.refresh_from_db()
    assert condition.resolution == "The job is no longer a monitor."


def test_deleted_monitor_needs_no_withdrawal() -> None:
    monitor = make_monitor()
    make_incident(monitor, kind="condition")
    Monitor.objects.filter(pk=monitor.pk).delete()
    assert Incident.objects.get().ended_by == "deleted", "not: no longer a monitor"


COMMAND_MODULE = "chroniker_monitors.management.commands.check_monitor"


@pytest.mark.parametrize(
    ("monitors", "opens", "long_running", "imported"),
    [
        (1, [True, False], False, True),
        (1, [True], False, False),
        (1, [], False, False),
        (1, [], True, True),
        (0, [False], True, False),
        (2, [False], False, True),
    ],
)
def test_checks_are_imported_before_a_fork_only_if_checks_follow(
    monkeypatch: pytest.MonkeyPatch,
    monitors: int,
    opens: list[bool],
    long_running: bool,
    imported: bool,
) -> None:
    preloaded: list[type] = []
    monkeypatch.setattr(Gauge, "preload", classmethod(preloaded.append))
    monkeypatch.delitem(sys.modules, COMMAND_MODULE, raising=False)
    for _ in range(monitors):
        make_monitor()
    jobs = [Job(failures_open_incidents=each) for each in opens]
    pre_fork.send(sender=None, jobs=jobs, long_running=long_running)
    assert preloaded == [Gauge] * imported
    assert (COMMAND_MODULE in sys.modules) == imported


@pytest.mark.django_db(transaction=True)
@pytest.mark.one_database
def test_job_whose_probe_was_deleted_runs_its_command_and_opens_incidents(
    run_tick: RunTick,
) -> None:
    monitor = make_monitor(schedule="@every 1h")
    Probe.objects.get(job=monitor.pk).delete()
    job = Job.objects.get(pk=monitor.pk)
    job.command, job.args = "act", "say hello"
    job.full_clean()
    job.save()
    run_tick()
    make_due(job)
    run_tick()
    run = Run.objects.get()
    assert (run.status, run.error) == ("succeeded", "")
    Job.objects.update(args="fail boom")
    make_due(job)
    run_tick()
    assert Incident.objects.get().kind == "failing"
