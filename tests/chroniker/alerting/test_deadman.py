"""CHRONIKER_DEADMAN_URL is pinged once per tick and causes no long delays."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.deadman import DeadManSwitch
from chroniker.models import Notification, Run
from tests.factories import make_action_job, make_job
from tests.support.machine import free_port
from tests.support.mail_server import set_mail_options
from tests.support.processes import ProcessResult, wait_until
from tests.support.recording_server import RecordingServer
from tests.support.types import RunInFork, StartTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("own_runtime_dir"),
]


@pytest.fixture(autouse=True)
def url(settings: Any, recording_server: RecordingServer) -> str:
    settings.CHRONIKER_DEADMAN_URL = f"{recording_server.url}/ping/feathers"
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 30
    return f"{recording_server.url}/ping/feathers"


def tick(**options: Any) -> float:
    """Run a tick as the cron line does, with warnings on stderr; its duration in seconds."""
    from chroniker.engine.entrypoints import run_single_tick

    logger = logging.getLogger("chroniker.alerting.deadman")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    began = time.monotonic()
    run_single_tick(**options)
    return time.monotonic() - began


def pings(recording_server: RecordingServer) -> int:
    return recording_server.requests.count(("GET", "/ping/feathers"))


def run_successful_tick(run_in_fork: RunInFork, **options: Any) -> ProcessResult:
    ended = run_in_fork(tick, **options).wait()
    assert ended.exit_code == 0, ended.output
    return ended


def test_each_tick_pings_once(run_in_fork: RunInFork, recording_server: RecordingServer) -> None:
    job = make_action_job()
    run_successful_tick(run_in_fork)
    assert Run.objects.get(job=job).status == "succeeded"
    assert pings(recording_server) == 1
    run_successful_tick(run_in_fork)
    assert pings(recording_server) == 2
    assert len(recording_server.requests) == 2


@pytest.mark.one_database
def test_tick_limited_to_jobs_does_not_ping(
    run_in_fork: RunInFork, recording_server: RecordingServer
) -> None:
    job = make_action_job()
    run_successful_tick(run_in_fork, only=frozenset([job.pk]))
    run_successful_tick(run_in_fork, only=frozenset([job.pk]))
    assert Run.objects.get(job=job).status == "succeeded"
    assert pings(recording_server) == 0


@pytest.mark.one_database
def test_cronserver_pings_on_each_tick(
    start_tick: StartTick, recording_server: RecordingServer
) -> None:
    loop = start_tick(every=0.1)
    wait_until(lambda: pings(recording_server) >= 3, timeout=30)
    loop.kill(signal.SIGTERM)
    assert loop.wait().exit_code == 0


def test_tick_without_database_does_not_ping(
    run_in_fork: RunInFork, recording_server: RecordingServer
) -> None:
    ended = run_in_fork(tick_without_a_database).wait()
    assert ended.value == "DatabaseNotReady"
    assert pings(recording_server) == 0


def tick_without_a_database() -> str:
    from django.db import connection, connections

    connections.close_all()
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        config["NAME"] = "/nowhere/at/all.sqlite3"
    else:
        config["HOST"], config["PORT"] = "127.0.0.1", str(free_port())
    try:
        tick()
    except Exception as error:
        return type(error).__name__
    return ""


@pytest.mark.one_database
@pytest.mark.slow
@pytest.mark.parametrize("idle", [True, False])
def test_hanging_server_delays_no_run_and_the_tick_only_briefly(
    run_in_fork: RunInFork, recording_server: RecordingServer, settings: Any, idle: bool
) -> None:
    run_successful_tick(run_in_fork)  # the first tick of a host has more to do
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    recording_server.mode = "hang"
    job = make_job() if idle else make_action_job()
    ended = run_successful_tick(run_in_fork)
    assert ended.value < 20  # the server hangs for two minutes
    assert "was not reached" in ended.stderr
    if not idle:
        assert Run.objects.get(job=job).status == "succeeded"


@pytest.mark.one_database
def test_run_is_recorded_while_a_server_hangs(
    run_in_fork: RunInFork, recording_server: RecordingServer
) -> None:
    recording_server.mode = "hang"
    job = make_action_job()
    still = run_in_fork(tick)
    wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=25)
    wait_until(lambda: pings(recording_server) == 1, timeout=25)
    assert still.alive
    recording_server.released.set()
    assert still.wait().exit_code == 0


def record_threads_at_fork(path: Path) -> None:
    """At each fork, append the names of the other threads to a file."""

    def note() -> None:
        names = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
        with path.open("a") as file:
            file.write(" ".join(names) + "\n")

    os.register_at_fork(before=note)


def tick_recording_threads(path: Path) -> None:
    record_threads_at_fork(path)
    tick()


@pytest.fixture
def watched(settings: Any, tmp_path: Path, django_user_model: Any) -> Any:
    """A failing job; emails to its subscriber are written to files."""
    set_mail_options(settings, "filebased", file_path=str(tmp_path / "mails"))
    job = make_action_job("fail boom")
    job.subscribers.add(django_user_model.objects.create_user("ann", email="ann@example.com"))
    return job


@pytest.mark.one_database
def test_sender_is_not_forked_while_the_ping_thread_runs(
    run_in_fork: RunInFork,
    recording_server: RecordingServer,
    settings: Any,
    tmp_path: Path,
    watched: Any,
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    recording_server.mode = "hang"
    assert run_in_fork(tick_recording_threads, tmp_path / "forks").wait().exit_code == 0
    assert Notification.objects.get().sent_at is not None
    assert set((tmp_path / "forks").read_text().splitlines()) == {""}


@pytest.mark.one_database
@pytest.mark.slow
def test_hanging_ping_does_not_block_mail_forever(
    run_in_fork: RunInFork, recording_server: RecordingServer, settings: Any, watched: Any
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 1
    recording_server.mode = "drip"
    run_successful_tick(run_in_fork)
    assert Notification.objects.get().sent_at is not None


@pytest.mark.slow
@pytest.mark.one_database
def test_cronserver_forks_its_first_run_without_the_ping_thread(
    run_in_fork: RunInFork, recording_server: RecordingServer, settings: Any, tmp_path: Path
) -> None:
    run_successful_tick(run_in_fork)  # the loop then starts with an idle tick
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    recording_server.mode = "hang"
    loop = run_in_fork(loop_recording_threads, tmp_path / "forks")
    wait_until(lambda: pings(recording_server) == 2, timeout=25)
    job = make_action_job()
    wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=25)
    loop.kill(signal.SIGTERM)
    assert loop.wait().exit_code == 0
    assert set((tmp_path / "forks").read_text().splitlines()) == {""}


def loop_recording_threads(path: Path) -> None:
    from chroniker.engine.scheduler import Scheduler

    record_threads_at_fork(path)
    Scheduler(every=0.1).run()


@pytest.mark.one_database
def test_outage_and_its_end_are_each_logged_once(
    run_in_fork: RunInFork, recording_server: RecordingServer, settings: Any
) -> None:
    recording_server.mode = "fail"
    first, second = run_successful_tick(run_in_fork), run_successful_tick(run_in_fork)
    assert first.stderr.count("was not reached") == 1
    assert "500" in first.stderr
    assert "feathers" not in first.stderr  # anyone who knows the URL could ping it
    assert second.stderr == ""
    recording_server.mode = "ok"
    run_successful_tick(run_in_fork)
    recording_server.mode = "fail"
    assert run_successful_tick(run_in_fork).stderr.count("was not reached") == 1


@pytest.mark.one_database
@pytest.mark.parametrize("path", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense"])
def test_only_http_urls_are_pinged(run_in_fork: RunInFork, settings: Any, path: str) -> None:
    settings.CHRONIKER_DEADMAN_URL = path
    assert "was not reached" in run_successful_tick(run_in_fork).stderr


@pytest.mark.one_database
def test_hanging_server_is_pinged_by_one_thread_at_a_time(
    recording_server: RecordingServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 30
    recording_server.mode = "hang"
    switch = DeadManSwitch().ping()
    wait_until(lambda: pings(recording_server) == 1, timeout=20)
    for _ in range(5):
        switch.ping()
    assert pings(recording_server) == 1
    recording_server.released.set()
    switch.wait()
    recording_server.mode = "ok"
    switch.ping().wait()
    assert pings(recording_server) == 2
    assert caplog.messages == []


@pytest.mark.one_database
def test_outage_is_recorded_next_to_the_lock_files(
    run_in_fork: RunInFork, recording_server: RecordingServer, settings: Any
) -> None:
    recording_server.mode = "fail"
    run_successful_tick(run_in_fork)
    directory = Path(settings.CHRONIKER_RUNTIME_DIR)
    assert len(list(directory.glob("deadman-*.down"))) == 1
    recording_server.mode = "ok"
    run_successful_tick(run_in_fork)
    assert list(directory.glob("deadman-*.down")) == []


# --- without ticks ---


@pytest.mark.one_database
def test_switch_that_was_not_pinged_waits_for_nothing() -> None:
    switch = DeadManSwitch()
    assert not switch.pinging
    switch.wait()


@pytest.mark.one_database
def test_ping_that_takes_too_long_is_logged_and_not_repeated(
    recording_server: RecordingServer, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 0.5
    recording_server.mode = "drip"
    switch = DeadManSwitch().ping()
    assert switch.pinging
    switch.wait()
    message = "The dead man's switch at 127.0.0.1 was not reached: no answer within 0.5 s"
    assert caplog.messages == [message]
    assert switch.pinging, "the thread may end soon"
    (marker,) = Path(settings.CHRONIKER_RUNTIME_DIR).glob("deadman-*.down")
    assert marker.stat().st_mode & 0o777 == 0o600
    marker.unlink()
    switch.ping()
    assert caplog.messages == [message, message]
    assert pings(recording_server) == 1
    recording_server.released.set()
    wait_until(lambda: not switch.pinging, timeout=20)


@pytest.mark.one_database
def test_outage_that_cannot_be_recorded_is_logged_each_time(
    recording_server: RecordingServer,
    settings: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = tmp_path / "runtime"
    runtime.write_text("a file where the directory should be")
    recording_server.mode = "fail"
    for _ in range(2):
        DeadManSwitch().ping().wait()
    assert len(caplog.messages) == 2
    assert "500" in caplog.messages[0] and str(runtime) in caplog.messages[0]


@pytest.mark.one_database
def test_end_of_an_outage_is_logged_once(
    recording_server: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "chroniker.alerting.deadman")
    recording_server.mode = "fail"
    DeadManSwitch().ping().wait()
    recording_server.mode = "ok"
    caplog.clear()
    for _ in range(2):
        DeadManSwitch().ping().wait()
    assert caplog.messages == ["The dead man's switch at 127.0.0.1 is reached again"]


@pytest.mark.one_database
@pytest.mark.parametrize("url", ["http://[secret", "nonsense-secret"])
def test_malformed_url_is_not_logged(
    settings: Any, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    settings.CHRONIKER_DEADMAN_URL = url
    DeadManSwitch().ping().wait()
    assert "at (no host) was not reached" in caplog.text
    assert "secret" not in caplog.text
