"""Check-ins, as a real HTTP server receives them, for every ending of a run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chroniker.models import Job, JobState, Run
from chroniker_monitors.sentry.check_ins import make_slug, monitor_config
from tests.factories import make_action_job, make_job
from tests.support.machine import free_port
from tests.support.processes import wait_until
from tests.support.recording_server import RecordingServer
from tests.support.types import RunManage, RunSentryTick, StartSentryTick

SLUG = re.compile(r"(?![0-9]+$)[a-z0-9_-]{1,50}")


def test_sentry_monitor_has_the_limits_of_its_job() -> None:
    job = Job(
        name="import",
        schedule="0 3 * * *",
        timezone="Europe/Berlin",
        start_deadline_seconds=600,
        jitter_seconds=90,
        timeout_seconds=3600,
        kill_grace_seconds=30,
        expected_seconds=60,
        failures_before_alert=3,
    )
    assert monitor_config(job) == {
        "schedule": {"type": "crontab", "value": "0 3 * * *"},
        "timezone": "Europe/Berlin",
        "checkin_margin": 12,
        "max_runtime": 61,
        "failure_issue_threshold": 3,
        "recovery_threshold": 1,
    }


@pytest.mark.parametrize(
    ("fields", "margin", "runtime"),
    [
        ({}, 5, 40320),  # without a limit Sentry must not report it as too long
        ({"expected_seconds": 61}, 5, 2),
        ({"start_deadline_seconds": 1}, 1, 40320),
        ({"timeout_seconds": 10**8, "start_deadline_seconds": 10**8}, 40320, 40320),
    ],
)
def test_limits_are_whole_minutes_that_sentry_accepts(
    fields: dict[str, Any], margin: int, runtime: int
) -> None:
    config = monitor_config(Job(name="import", schedule="@daily", timezone="UTC", **fields))
    assert (config["checkin_margin"], config["max_runtime"]) == (margin, runtime)


def test_name_that_is_a_slug_stays_as_it_is() -> None:
    assert make_slug("nightly-import") == "nightly-import"
    assert make_slug("nightly_import") == "nightly_import"


@pytest.mark.parametrize(
    "names",
    [
        ("Nightly import", "nightly import", "nightly-import", "nightly, import"),
        ("x" * 60 + "a", "x" * 60 + "b", "x" * 50, "x" * 51),
        ("月次", "週次", "日次"),
        ("2024", "-2024", "", "-"),
        ("Grüße", "Grusse", "grue", "gruße"),
    ],
)
def test_similar_names_have_distinct_slugs(names: tuple[str, ...]) -> None:
    slugs = [make_slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(SLUG.fullmatch(slug) for slug in slugs)
    # A name that looks like the slug of another job gets another slug.
    assert not set(slugs) & {make_slug(slug) for slug in slugs if slug not in names}


@pytest.mark.slow
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_name_has_a_slug_that_sentry_accepts(name: str, host: str) -> None:
    assert SLUG.fullmatch(make_slug(name, host))


def test_hosts_of_a_job_have_distinct_slugs() -> None:
    assert len({make_slug("clean"), make_slug("clean", "north"), make_slug("clean", "south")}) == 3


# --- as Sentry receives them ---


def statuses(recording_server: RecordingServer) -> list[str]:
    return [check_in["status"] for check_in in recording_server.check_ins]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "fields", "status", "last"),
    [
        ("say hello", {}, "succeeded", "ok"),
        ("exit 3", {}, "failed", "error"),
        ("fail boom", {}, "failed", "error"),
        ("sleep 60", {"timeout_seconds": 1, "kill_grace_seconds": 0}, "timed_out", "error"),
    ],
)
def test_run_checks_in_at_start_and_end(
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    action: str,
    fields: dict[str, Any],
    status: str,
    last: str,
) -> None:
    job = make_action_job(action, name="nightly-import", **fields)
    sentry_tick()
    run = Run.objects.get(job=job)
    assert run.status == status
    first, second = recording_server.check_ins
    assert (first["status"], second["status"]) == ("in_progress", last)
    assert first["check_in_id"] == second["check_in_id"]
    assert first["monitor_slug"] == second["monitor_slug"] == "nightly-import"
    assert first["environment"] == "tests"
    assert first.get("duration") is None
    assert second["duration"] == pytest.approx(run.duration_seconds)
    assert first["monitor_config"]["schedule"] == {"type": "interval", "value": 1, "unit": "hour"}


@pytest.mark.slow
def test_another_tick_closes_the_check_in_of_a_lost_run(
    start_sentry_tick: StartSentryTick,
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    settings: Any,
    tmp_path: Path,
) -> None:
    started = tmp_path / "started"
    job = make_action_job(f"sleep 300 {started}")
    first = start_sentry_tick()
    wait_until(started.exists, timeout=30)
    wait_until(lambda: statuses(recording_server) == ["in_progress"], timeout=30)
    first.kill(signal.SIGKILL)
    first.wait()

    def is_lost() -> bool:
        sentry_tick()
        return Run.objects.get(job=job).status == "lost"

    wait_until(is_lost, timeout=30)
    assert statuses(recording_server) == ["in_progress", "error"]
    assert len({check_in["check_in_id"] for check_in in recording_server.check_ins}) == 1


@pytest.mark.slow
def test_another_host_closes_the_same_check_in(
    start_sentry_tick: StartSentryTick,
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.CHRONIKER_LEASE_SECONDS, settings.CHRONIKER_LEASE_RENEW_SECONDS = 6, 1
    settings.CHRONIKER_HOSTNAME = "one"
    started = tmp_path / "started"
    job = make_action_job(f"sleep 300 {started}")
    first = start_sentry_tick()
    wait_until(started.exists, timeout=30)
    wait_until(lambda: statuses(recording_server) == ["in_progress"], timeout=30)
    first.kill(signal.SIGKILL)
    first.wait()
    settings.CHRONIKER_HOSTNAME = "two"

    def is_lost() -> bool:
        sentry_tick()
        return Run.objects.get(job=job).status == "lost"

    wait_until(is_lost, timeout=30)
    assert statuses(recording_server) == ["in_progress", "error"]
    assert len({check_in["check_in_id"] for check_in in recording_server.check_ins}) == 1


def test_missed_slots_are_left_to_sentry(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    now = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
    job = make_job(
        schedule="0 3 * * *", created_at=now - timedelta(days=3), start_deadline_seconds=60
    )
    sentry_tick(now=now)
    assert Run.objects.get(job=job).status == "missed"
    assert recording_server.check_ins == []


@pytest.mark.one_database
def test_run_that_could_not_start_checks_in_as_error(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    make_action_job(command="no_such_command", args="")
    sentry_tick()
    assert statuses(recording_server) == ["error"]


@pytest.mark.one_database
def test_job_without_a_schedule_has_no_monitor(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    by_hand, scheduled = make_job(schedule=""), make_action_job(name="scheduled")
    JobState.objects.create(job=by_hand)
    assert JobState.objects.filter(job=by_hand).request_run()
    sentry_tick()
    assert Run.objects.filter(status="succeeded").count() == 2
    assert {check_in["monitor_slug"] for check_in in recording_server.check_ins} == {scheduled.name}


@pytest.mark.one_database
def test_manual_run_of_a_disabled_job_sends_no_check_in(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    job = make_job(schedule="0 3 * * *", enabled=False)
    sentry_tick(only=frozenset([job.pk]), force=True)
    assert Run.objects.get(job=job).status == "succeeded"
    assert recording_server.check_ins == []


@pytest.mark.one_database
def test_names_equal_for_sixty_characters_are_two_monitors(
    sentry_tick: RunSentryTick, recording_server: RecordingServer
) -> None:
    for end in ("north", "south"):
        make_action_job(name=f"{'the very long name of an import of many, many books ':<60}{end}")
    sentry_tick()
    slugs = {check_in["monitor_slug"] for check_in in recording_server.check_ins}
    assert len(slugs) == 2
    assert all(len(slug) <= 50 and slug.startswith("the-very-long-name") for slug in slugs)


@pytest.mark.one_database
@pytest.mark.slow
def test_job_on_every_host_has_a_monitor_on_each(
    sentry_tick: RunSentryTick, recording_server: RecordingServer, settings: Any
) -> None:
    make_action_job(name="clean", hostname="*")
    for host in ("north", "south"):
        settings.CHRONIKER_HOSTNAME = host
        sentry_tick()
    JobState.objects.update(next_run_at=datetime.now(UTC), next_slot_at=datetime.now(UTC))
    for host in ("north", "south"):
        settings.CHRONIKER_HOSTNAME = host
        sentry_tick()
    slugs = {check_in["monitor_slug"] for check_in in recording_server.check_ins}
    assert len(slugs) == 2
    assert {slug.rpartition("-")[0] for slug in slugs} == {"clean-north", "clean-south"}


@pytest.mark.one_database
@pytest.mark.slow
def test_cron_command_reports_to_sentry_and_prints_nothing(
    manage: RunManage, recording_server: RecordingServer
) -> None:
    job = make_action_job("fail boom")
    done = manage("cron", env={"CHRONIKER_TEST_SENTRY_DSN": recording_server.dsn})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Run.objects.get(job=job).status == "failed"
    assert statuses(recording_server) == ["in_progress", "error"]
    assert [event["tags"]["chroniker.job"] for event in recording_server.events] == [job.name]


def record_threads_at_fork() -> None:
    """Print the number of other threads at each fork of this process and its children."""
    os.register_at_fork(
        before=lambda: print("forked with threads:", threading.active_count() - 1, flush=True)
    )


@pytest.mark.slow
@pytest.mark.one_database
def test_jobs_are_not_forked_from_a_process_that_talks_to_sentry(
    start_sentry_tick: StartSentryTick,
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    settings: Any,
    tmp_path: Path,
) -> None:
    """Check-ins about lost runs and missed slots also wait until after the fork."""
    settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/ping"
    started = tmp_path / "started"
    lost = make_action_job(f"sleep 300 {started}")
    first = start_sentry_tick()
    wait_until(started.exists, timeout=30)
    jobs = [make_action_job(), make_action_job("fail boom")]
    late = make_action_job(schedule="@every 7s")  # with many missed slots
    first.kill(signal.SIGKILL)
    first.wait()

    reported: set[str] = set()

    def is_lost() -> bool:
        reported.update(sentry_tick(before=record_threads_at_fork).stdout.splitlines())
        return Run.objects.get(job=lost).status == "lost"

    wait_until(is_lost, timeout=30)
    assert reported == {"forked with threads: 0"}
    assert Run.objects.filter(job__in=jobs).count() == 2
    assert set(Run.objects.filter(job=late).values_list("status", flat=True)) == {
        "missed", "succeeded",
    }  # fmt: skip


# --- a Sentry that fails ---


@pytest.mark.one_database
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["gone", "fail", "hang"])
def test_failing_sentry_changes_no_outcome_and_delays_no_tick(
    sentry_tick: RunSentryTick,
    recording_server: RecordingServer,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    monkeypatch.setenv("CHRONIKER_TEST_SENTRY_FLUSH", "2")
    recording_server.mode = mode
    good, bad = make_action_job(), make_action_job("fail boom")
    dsn = f"http://a@127.0.0.1:{free_port()}/42" if mode == "gone" else recording_server.dsn
    ended = sentry_tick(dsn)
    assert ended.output == ""
    assert Run.objects.get(job=good).status == "succeeded"
    run = Run.objects.get(job=bad)
    assert (run.status, run.error) == ("failed", "ValueError: boom")
    # The server hangs for two minutes, and the SDK tries for 30 seconds. The job waits two
    # seconds for its event, as does the process of the tick at its end.
    assert run.duration_seconds is not None and run.duration_seconds < 20
    assert ended.value < 20
    assert ended.seconds < 25


@pytest.mark.one_database
def test_without_sentry_nothing_is_imported_for_it(site_env: dict[str, str]) -> None:
    job = make_action_job()
    code = (
        "import sys, django; django.setup()\n"
        "from chroniker.engine.entrypoints import run_single_tick\n"
        "run_single_tick(); run_single_tick()\n"
        "found = {'sentry_sdk', 'chroniker.alerting.deadman', 'urllib3'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=site_env, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Run.objects.get(job=job).status == "succeeded"
