"""Monitors that are measured together: one unruly probe among fifty others harms none of them."""

from __future__ import annotations

import itertools
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils.timezone import now as utc_now

from chroniker.engine.scheduler import Scheduler
from chroniker.enums import IncidentKind
from chroniker.extensions import batch_names
from chroniker.models import Incident, Job, JobState, OutputChunk, Run
from chroniker.signals import run_finished
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor, MonitorState, Sample
from tests import databases
from tests.factories import (
    make_gauge_monitor,
    make_heartbeat_monitor,
    make_job,
    make_monitor,
    monitor_state,
    set_gauge,
)
from tests.support.processes import fork, wait_until
from tests.support.runs import request_stop
from tests.support.types import RunInFork, RunTick, StartTick
from tests.testapp.unruly import ACTIONS, LEAVES_SOMETHING

pytestmark = [pytest.mark.django_db(transaction=True)]

NEIGHBOURS = 50
DUE = timedelta(seconds=1)


def make_neighbours(number: int = NEIGHBOURS, **fields: Any) -> list[Monitor]:
    fields = {"schedule": "@every 1h", "critical": 5} | fields
    return [make_monitor("test_unruly", name=f"neighbour {n}", **fields) for n in range(number)]


def make_unruly(action: str, **fields: Any) -> Monitor:
    fields.setdefault("timeout_seconds", 30)
    return make_monitor(
        "test_unruly", name=action, params={"action": action}, schedule="@every 1h", **fields
    )


def make_due() -> None:
    moment = utc_now() - DUE
    scheduled = JobState.objects.exclude(job__schedule="")
    scheduled.update(next_slot_at=moment, next_run_at=moment)


def tick() -> None:
    Scheduler().run()


def measure_together(run_tick: RunTick) -> None:
    """One tick that plans the monitors, and one in which all are due."""
    run_tick()
    make_due()
    run_tick()


# --- isolation ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """What a tick recorded of a monitor."""

    samples: int
    severity: int
    message: str
    error: str
    statuses: tuple[str, ...]
    run_error: str
    batched: bool


def read_measured() -> dict[str, Measured]:
    samples = Counter(Sample.objects.values_list("job", flat=True))
    states = {state.job_id: state for state in MonitorState.objects.all()}
    runs: dict[int, list[Run]] = {}
    for run in Run.objects.all():
        runs.setdefault(run.job_id, []).append(run)
    found = {}
    for job in Job.objects.all():
        state = states.get(job.pk) or MonitorState(severity=-1)
        mine = runs.get(job.pk, [])
        found[job.name] = Measured(
            samples[job.pk], state.severity, state.message, state.error,
            tuple(run.status for run in mine), mine[0].error if mine else "", bool(job.batch),
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def together(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, Measured]]:
    """One tick with every unruly probe that does not kill the guard, and fifty others."""
    with django_db_blocker.unblock():
        neighbours = make_neighbours()
        for action in ACTIONS:
            if action == "kill_guard":
                continue
            monitor = make_unruly(action, timeout_seconds=0.5 if action == "wait" else 30)
            # The limit of the run, not of the probe, ends what does not heed the probe's.
            limits = {"timeout_seconds": 1} if action == "hang" else {}
            Job.objects.filter(pk=monitor.pk).update(kill_grace_seconds=0, **limits)
        assert len(neighbours) == NEIGHBOURS
        fork(tick).wait(60)
        # The unruly ones first, so that every neighbour comes after some of them.
        make_due()
        JobState.objects.filter(job__name__in=list(ACTIONS)).update(
            next_run_at=utc_now() - 2 * DUE, next_slot_at=utc_now() - 2 * DUE
        )
        began = time.monotonic()
        result = fork(tick).wait(60)
        assert result.exit_code == 0, result.output
        measured = read_measured()
        print(f"the tick took {time.monotonic() - began:.1f} s")
        databases.delete_all_rows(["default"])
        connection.close()
    yield measured


@pytest.mark.slow
@pytest.mark.parametrize("action", [name for name in ACTIONS if name != "kill_guard"])
def test_unruly_probe_is_recorded_once(together: dict[str, Measured], action: str) -> None:
    measured = together[action]
    assert measured.batched
    assert measured.samples == 1
    assert len(measured.statuses) == 1
    if action in LEAVES_SOMETHING:
        assert (measured.severity, measured.message) == (Severity.OK, "did it")
        assert measured.statuses == ("succeeded",)
    else:
        assert measured.severity == Severity.UNKNOWN
        assert measured.error
        expected = {"hang": "timed_out"}.get(action, "failed")
        assert measured.statuses == (expected,)


@pytest.mark.slow
def test_neighbours_are_measured_in_the_same_tick_in_an_unchanged_process(
    together: dict[str, Measured],
) -> None:
    neighbours = [facts for name, facts in together.items() if name.startswith("neighbour")]
    assert len(neighbours) == NEIGHBOURS
    assert {facts.statuses for facts in neighbours} == {("succeeded",)}
    assert {facts.samples for facts in neighbours} == {1}
    assert {facts.severity for facts in neighbours} == {Severity.OK}
    assert len({facts.message for facts in neighbours}) == 1, "the process was not the same for all"


@pytest.mark.slow
@pytest.mark.one_database
def test_guard_that_is_killed_by_a_probe_costs_only_that_monitor(run_tick: RunTick) -> None:
    make_neighbours(params={"nap_seconds": 0.01})
    make_unruly("kill_guard")
    measure_together(run_tick)
    measured = read_measured()
    culprit = measured.pop("kill_guard")
    assert (culprit.samples, culprit.severity) == (1, Severity.UNKNOWN)
    assert culprit.statuses == ("failed",)
    assert "SIGKILL" in culprit.error
    assert {(facts.samples, facts.severity) for facts in measured.values()} == {(1, Severity.OK)}


@pytest.mark.one_database
def test_output_belongs_to_the_run_that_wrote_it(run_tick: RunTick) -> None:
    make_neighbours(6)
    monitor = make_unruly("write")
    measure_together(run_tick)
    assert {chunk.run.job_id for chunk in OutputChunk.objects.select_related("run")} == {monitor.pk}
    output = {chunk.stream: chunk.text for chunk in OutputChunk.objects.order_by("pk")}
    assert output["stdout"] == "to stdout\nfrom a program\n"
    assert output["stderr"] == "to stderr\n"
    assert output["log"] == "WARNING tests.unruly to the log\n"
    run = Run.objects.get(job=monitor.pk)
    assert (run.stdout_bytes, run.stderr_bytes) == (25, 10)


# --- which monitors share a process ---------------------------------------------------------


def test_monitors_share_a_process_unless_their_kind_or_a_person_says_otherwise() -> None:
    assert batch_names() == ["monitors"]
    assert make_monitor().batch == "monitors"
    assert make_heartbeat_monitor().batch == "monitors"
    assert make_monitor("command", params={"command": "noop"}).batch == ""
    alone = make_monitor(own_process=True)
    assert alone.batch == ""
    alone.probe.own_process = False
    alone.save_with_probe(alone.probe)
    alone.refresh_from_db()
    assert alone.batch == "monitors"
    assert make_job().batch == ""


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("name", "value", "processes"),
    [("START_METHOD", "fork", 1), ("CHECK_LOCK_FILE", True, 3)],
)
def test_monitors_have_processes_of_their_own_where_each_run_holds_a_lock(
    run_tick: RunTick, settings: Any, name: str, value: object, processes: int
) -> None:
    setattr(settings, f"CHRONIKER_{name}", value)
    make_neighbours(3)
    measure_together(run_tick)
    assert set(Run.objects.values_list("status", flat=True)) == {"succeeded"}
    assert Sample.objects.count() == 3
    assert len(set(Run.objects.values_list("pid", flat=True))) == processes


@pytest.mark.one_database
def test_batch_takes_one_place_of_the_capacity(run_tick: RunTick, settings: Any) -> None:
    settings.CHRONIKER_MAX_PARALLEL = 2
    make_neighbours(20)
    job = make_job(schedule="@every 1h")
    measure_together(run_tick)
    assert Run.objects.filter(status="succeeded").count() == 21
    assert Run.objects.get(job=job).status == "succeeded"


@pytest.mark.one_database
def test_monitors_are_measured_one_after_another_if_wanted(run_tick: RunTick) -> None:
    """``cron --sync``."""
    make_neighbours(3, params={"nap_seconds": 0.4})
    run_tick()
    make_due()
    run_tick(max_parallel=1)
    began = Sample.objects.order_by("at").values_list("at", flat=True)
    assert len(began) == 3
    for one, then in itertools.pairwise(began):
        assert then - one >= timedelta(seconds=0.4)


# --- what holds for a single check ----------------------------------------------------------


def test_batch_opens_and_resolves_incidents(tmp_path: Path, run_tick: RunTick) -> None:
    monitors = [make_gauge_monitor(tmp_path, 95, schedule="@every 1h") for _ in range(3)]
    measure_together(run_tick)
    incidents = Incident.objects.filter(kind=IncidentKind.CONDITION)
    assert {incident.job_id for incident in incidents.open()} == {job.pk for job in monitors}
    assert {incident.severity for incident in incidents} == {"critical"}
    run = Run.objects.get(job=monitors[0].pk)
    assert incidents.get(job=monitors[0].pk).first_run == run
    assert monitor_state(monitors[0]).last_run_id == run.pk
    set_gauge(tmp_path, 50)
    make_due()
    run_tick()
    assert not incidents.open().exists()
    assert incidents.count() == 3
    assert monitor_state(monitors[0]).recent_values == [[95.0, 2], [50.0, 0]]


def test_counters_grow_once_for_each_run(tmp_path: Path, run_tick: RunTick) -> None:
    good = make_gauge_monitor(tmp_path, 50, schedule="@every 1h")
    bad = make_unruly("exit")
    for number in (1, 2):
        measure_together(run_tick)
        state = JobState.objects.get(job=good.pk)
        assert (state.runs_total, state.duration_count, state.start_lag_count) == (number,) * 3
        assert sum(state.duration_buckets.values()) == number
        assert (state.consecutive_failures, state.failures_error) == (0, 0)
        state = JobState.objects.get(job=bad.pk)
        assert (state.runs_total, state.failures_error, state.consecutive_failures) == (number,) * 3
        assert state.lease_token is None
        assert state.next_run_at is not None
        assert monitor_state(good).samples_total == monitor_state(bad).samples_total == number


def test_heartbeats_are_evaluated_in_a_batch(run_tick: RunTick, client: Client) -> None:
    late = make_heartbeat_monitor(60, 60, schedule="@every 1h")
    alive = make_heartbeat_monitor(schedule="@every 1h")
    Job.objects.filter(pk=late.pk).update(created_at=utc_now() - timedelta(hours=1))
    client.post(f"/ping/{alive.probe.ping_uuid}/")
    measure_together(run_tick)
    assert monitor_state(late).severity == Severity.CRITICAL
    assert monitor_state(alive).severity == Severity.OK
    assert monitor_state(alive).samples_total == 2


def test_secret_of_the_site_is_masked_in_a_batch(
    tmp_path: Path, run_tick: RunTick, settings: Any
) -> None:
    settings.BROKER_PASSWORD = "hunter2hunter2"
    monitor = make_gauge_monitor(tmp_path, "raise with hunter2hunter2", schedule="@every 1h")
    measure_together(run_tick)
    stored = [monitor_state(monitor).error, Sample.objects.get().error, Run.objects.get().error]
    stored += OutputChunk.objects.values_list("text", flat=True)
    assert all("hunter2" not in text for text in stored)
    assert all("********" in text for text in stored)


@pytest.mark.one_database
def test_every_host_has_a_state_of_its_own_in_a_batch(
    tmp_path: Path, run_tick: RunTick, settings: Any
) -> None:
    monitor = make_gauge_monitor(tmp_path, 95, hostname="*", schedule="@every 1h")
    for host, value in (("web1", 95), ("web2", 50)):
        settings.CHRONIKER_HOSTNAME = host
        set_gauge(tmp_path, value)
        measure_together(run_tick)
    assert monitor_state(monitor, "web1").severity == Severity.CRITICAL
    assert monitor_state(monitor, "web2").severity == Severity.OK


@pytest.mark.one_database
def test_downstream_job_runs_after_a_monitor_of_a_batch(run_tick: RunTick) -> None:
    from chroniker.models import JobDependency

    upstream, *_ = make_neighbours(3)
    downstream = make_job()
    JobDependency.objects.create(downstream=downstream, upstream=upstream)
    measure_together(run_tick)
    assert Run.objects.get(job=downstream).status == "succeeded"
    assert Sample.objects.filter(job=upstream.pk).count() == 1


@pytest.mark.one_database
def test_deleted_probe_fails_alone(run_tick: RunTick) -> None:
    monitor, *others = make_neighbours(5)
    run_tick()
    monitor.probe.delete()
    make_due()
    run_tick()
    assert "no monitor" in Run.objects.get(job=monitor.pk).error
    assert Sample.objects.count() == len(others)


@pytest.mark.one_database
def test_signals_are_sent_for_each_run_of_a_batch(
    run_tick: RunTick, run_in_fork: RunInFork
) -> None:
    def work() -> list[tuple[str, str, str]]:
        seen: list[tuple[str, str, str]] = []

        def finished(run: Run, job: Job, batch: str, **_: Any) -> None:
            seen.append((job.name, run.status, batch))

        run_finished.connect(finished)
        Scheduler().run()
        return seen

    make_neighbours(3)
    run_tick()
    make_due()
    assert sorted(run_in_fork(work).wait(30).value) == [
        (f"neighbour {n}", "succeeded", "monitors") for n in range(3)
    ]


@pytest.mark.one_database
def test_what_is_usual_is_read_by_the_workers(
    tmp_path: Path, run_tick: RunTick, run_in_fork: RunInFork
) -> None:
    """It takes milliseconds for each monitor, and a scheduler has leases to renew."""

    def work() -> list[str]:
        statements: list[str] = []

        def watch(execute: Any, sql: str, *others: Any) -> Any:
            statements.append(sql)
            return execute(sql, *others)

        with connection.execute_wrapper(watch):
            Scheduler().run()
        return [sql for sql in statements if f"FROM {table}" in sql]

    table = connection.ops.quote_name(Sample._meta.db_table)
    rule = {"operator": "unusual", "warning": 1, "critical": 3, "schedule": "@every 1h"}
    monitors = [make_gauge_monitor(tmp_path, 95, **rule) for _ in range(3)]
    broken = make_monitor(**rule)
    for monitor in (*monitors, broken):
        MonitorState.objects.create(job=monitor)
        write_history(monitor, 50)
    run_tick()
    make_due()
    assert run_in_fork(work).wait(30).value == []
    for monitor in monitors:
        state = monitor_state(monitor)
        assert state.message.startswith("Usually 49 to 51 at this hour")
        assert (state.severity, state.expected_high) == (Severity.CRITICAL, 51)
    assert monitor_state(broken).severity == Severity.UNKNOWN


def write_history(monitor: Monitor, value: float) -> None:
    """Four weeks of one value a minute around this hour."""
    Sample.objects.bulk_create(
        Sample(
            job_id=monitor.pk, value=value, severity=0,
            at=utc_now() - timedelta(weeks=week) + timedelta(minutes=minute),
        )
        for week in range(1, 5)
        for minute in range(-60, 60)
    )  # fmt: skip


# --- stopping -------------------------------------------------------------------------------


@pytest.mark.one_database
@pytest.mark.slow
def test_one_check_of_a_batch_is_stopped_on_request(
    start_tick: StartTick, run_tick: RunTick
) -> None:
    neighbours = make_neighbours(4)
    slow = make_unruly("wait")
    run_tick()
    make_due()
    running = start_tick()
    wait_until(lambda: Sample.objects.count() == len(neighbours))
    request_stop(slow)
    running.wait(10)
    assert Run.objects.get(job=slow.pk).status == "stopped"
    assert not Sample.objects.filter(job=slow.pk).exists()


@pytest.mark.one_database
@pytest.mark.slow
def test_shutdown_interrupts_a_batch_and_its_slots_are_due_again(
    start_tick: StartTick, run_tick: RunTick
) -> None:
    done, slow = make_neighbours(1)[0], make_unruly("wait")
    run_tick()
    make_due()
    running = start_tick()
    wait_until(lambda: Sample.objects.filter(job=done.pk).exists())
    for _ in range(2):  # the second one does not wait for the runs
        running.kill(signal.SIGTERM)
        time.sleep(0.2)
    running.wait(10)
    run = Run.objects.get(job=slow.pk)
    assert run.status == "interrupted"
    state = JobState.objects.get(job=slow.pk)
    assert (state.restart_slot_at, state.interrupted_total) == (run.scheduled_for, 1)
    assert not Sample.objects.filter(job=slow.pk).exists()


@pytest.mark.one_database
@pytest.mark.slow
def test_slow_monitors_do_not_delay_the_others(run_tick: RunTick) -> None:
    for number in range(6):
        make_monitor(
            "test_unruly", name=f"slow {number}", params={"nap_seconds": 2.5}, priority=1,
            schedule="@every 1h",
        )  # fmt: skip
    make_neighbours(20)
    run_tick()
    make_due()
    began = time.monotonic()
    run_tick()
    assert time.monotonic() - began < 7  # two at a time they would take seven and a half
    lags = [
        (sample.at - run.started_at).total_seconds()
        for sample in Sample.objects.filter(job__name__startswith="neighbour")
        for run in Run.objects.filter(job=sample.job_id)
        if run.started_at
    ]
    assert max(lags) < 2.5  # before the first of the slow ones has ended


def test_payload_of_a_worker_is_json() -> None:
    """A measurement survives the pipe with its infinities refused and its enum restored."""
    from dataclasses import asdict

    from chroniker_monitors.checking.joint_recorder import load_measurement
    from chroniker_monitors.checking.measurement import Measurement

    measurement = Measurement(Severity.WARNING, 1.5, "text", "V", 0.25)
    at = utc_now()
    payload = json.loads(json.dumps({"at": at.isoformat(), "measurement": asdict(measurement)}))
    assert load_measurement(payload) == (measurement, at)
