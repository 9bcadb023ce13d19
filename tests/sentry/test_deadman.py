"""CHRONIKER_DEADMAN_URL: a sign of life once a tick, which nothing waits for in vain."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chroniker.alerting.deadman import LifeSign
from chroniker.models import Notification, Run
from tests.sentry.jobs import due_job
from tests.sentry.receivers import Receiver
from tests.support import Ended, Forked, free_port, make_job, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

InFork = Callable[..., Forked]


@pytest.fixture(autouse=True)
def url(settings: Any, receiver: Receiver) -> str:
    settings.CHRONIKER_DEADMAN_URL = f"{receiver.url}/ping/feathers"
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 30
    return f"{receiver.url}/ping/feathers"


def tick(**options: Any) -> float:
    """What the cron line does, its warnings on stderr; how long it took, seconds."""
    from chroniker.engine.entrypoints import run_single_tick

    logger = logging.getLogger("chroniker.alerting.deadman")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    began = time.monotonic()
    run_single_tick(**options)
    return time.monotonic() - began


def pings(receiver: Receiver) -> int:
    return receiver.requests.count(("GET", "/ping/feathers"))


def ticked(in_fork: InFork, **options: Any) -> Ended:
    ended = in_fork(tick, **options).wait()
    assert ended.exit_code == 0, ended.output
    return ended


def test_each_tick_fetches_it_once_idle_or_not(in_fork: InFork, receiver: Receiver) -> None:
    job = due_job()
    ticked(in_fork)
    assert Run.objects.get(job=job).status == "succeeded"
    assert pings(receiver) == 1
    ticked(in_fork)
    assert pings(receiver) == 2
    assert len(receiver.requests) == 2


@pytest.mark.one_database
def test_a_tick_of_some_jobs_only_is_no_sign_of_life(in_fork: InFork, receiver: Receiver) -> None:
    job = due_job()
    ticked(in_fork, only=frozenset([job.pk]))
    ticked(in_fork, only=frozenset([job.pk]))
    assert Run.objects.get(job=job).status == "succeeded"
    assert pings(receiver) == 0


@pytest.mark.one_database
def test_a_loop_of_ticks_fetches_it_each_time(
    start_tick: Callable[..., Forked], receiver: Receiver
) -> None:
    loop = start_tick(every=0.1)
    wait_until(lambda: pings(receiver) >= 3, timeout=30)
    loop.kill(signal.SIGTERM)
    assert loop.wait().exit_code == 0


def test_a_tick_that_cannot_see_the_database_gives_no_sign_of_life(
    in_fork: InFork, receiver: Receiver
) -> None:
    ended = in_fork(tick_without_a_database).wait()
    assert ended.value == "DatabaseUnready"
    assert pings(receiver) == 0


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
def test_a_server_that_hangs_holds_up_no_run_and_the_end_only_for_so_long(
    in_fork: InFork, receiver: Receiver, settings: Any, idle: bool
) -> None:
    ticked(in_fork)  # the first tick of a host has more to do
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    receiver.mode = "hang"
    job = make_job() if idle else due_job()
    ended = ticked(in_fork)
    assert ended.value < 20  # the server hangs for two minutes
    assert "was not reached" in ended.stderr
    if not idle:
        assert Run.objects.get(job=job).status == "succeeded"


@pytest.mark.one_database
def test_a_run_is_recorded_while_a_server_hangs(in_fork: InFork, receiver: Receiver) -> None:
    receiver.mode = "hang"
    job = due_job()
    still = in_fork(tick)
    wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=25)
    wait_until(lambda: pings(receiver) == 1, timeout=25)
    assert still.alive
    receiver.released.set()
    assert still.wait().exit_code == 0


def note_threads_at_forks(path: Path) -> None:
    """Write down, at each fork, which threads the new process will not have."""

    def note() -> None:
        names = [one.name for one in threading.enumerate() if one is not threading.main_thread()]
        with path.open("a") as file:
            file.write(" ".join(names) + "\n")

    os.register_at_fork(before=note)


def tick_noting_threads(path: Path) -> None:
    note_threads_at_forks(path)
    tick()


@pytest.fixture
def watched(settings: Any, tmp_path: Path, django_user_model: Any) -> Any:
    """A job that fails, and whose subscriber's mails are written to files."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = str(tmp_path / "mails")
    job = due_job("fail boom")
    job.subscribers.add(django_user_model.objects.create_user("ann", email="ann@example.com"))
    return job


@pytest.mark.one_database
def test_what_sends_mail_is_not_forked_while_the_thread_lives(
    in_fork: InFork, receiver: Receiver, settings: Any, tmp_path: Path, watched: Any
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    receiver.mode = "hang"
    assert in_fork(tick_noting_threads, tmp_path / "forks").wait().exit_code == 0
    assert Notification.objects.get().sent_at is not None
    assert set((tmp_path / "forks").read_text().splitlines()) == {""}


@pytest.mark.one_database
@pytest.mark.slow
def test_a_thread_that_never_ends_keeps_no_mail_for_ever(
    in_fork: InFork, receiver: Receiver, settings: Any, watched: Any
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 1
    receiver.mode = "drip"
    ticked(in_fork)
    assert Notification.objects.get().sent_at is not None


@pytest.mark.one_database
def test_a_loop_that_starts_its_first_run_forks_without_the_thread(
    in_fork: InFork, receiver: Receiver, settings: Any, tmp_path: Path
) -> None:
    ticked(in_fork)  # so that the loop begins with an idle tick
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 2
    receiver.mode = "hang"
    loop = in_fork(loop_noting_threads, tmp_path / "forks")
    wait_until(lambda: pings(receiver) == 2, timeout=25)
    job = due_job()
    wait_until(lambda: Run.objects.filter(job=job, status="succeeded").exists(), timeout=25)
    loop.kill(signal.SIGTERM)
    assert loop.wait().exit_code == 0
    assert set((tmp_path / "forks").read_text().splitlines()) == {""}


def loop_noting_threads(path: Path) -> None:
    from chroniker.engine.scheduler import Scheduler

    note_threads_at_forks(path)
    Scheduler(every=0.1).run()


@pytest.mark.one_database
def test_an_outage_is_told_once_and_so_is_its_end(
    in_fork: InFork, receiver: Receiver, settings: Any
) -> None:
    receiver.mode = "fail"
    first, second = ticked(in_fork), ticked(in_fork)
    assert first.stderr.count("was not reached") == 1
    assert "500" in first.stderr
    assert "feathers" not in first.stderr  # who knows the URL could fetch it in our place
    assert second.stderr == ""
    receiver.mode = "ok"
    ticked(in_fork)
    receiver.mode = "fail"
    assert ticked(in_fork).stderr.count("was not reached") == 1


@pytest.mark.one_database
@pytest.mark.parametrize("path", ["file:///etc/hostname", "ftp://127.0.0.1/x", "nonsense"])
def test_nothing_but_http_is_fetched(in_fork: InFork, settings: Any, path: str) -> None:
    settings.CHRONIKER_DEADMAN_URL = path
    assert "was not reached" in ticked(in_fork).stderr


@pytest.mark.one_database
def test_a_server_that_hangs_is_asked_by_one_thread_at_a_time(
    receiver: Receiver, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CHRONIKER_DEADMAN_TIMEOUT_SECONDS = 30
    receiver.mode = "hang"
    sign = LifeSign().send()
    wait_until(lambda: pings(receiver) == 1, timeout=20)
    for _ in range(5):
        sign.send()
    assert pings(receiver) == 1
    receiver.released.set()
    sign.wait()
    receiver.mode = "ok"
    sign.send().wait()
    assert pings(receiver) == 2
    assert caplog.messages == []


@pytest.mark.one_database
def test_the_note_of_an_outage_is_kept_with_the_lock_files(
    in_fork: InFork, receiver: Receiver, settings: Any
) -> None:
    receiver.mode = "fail"
    ticked(in_fork)
    directory = Path(settings.CHRONIKER_RUNTIME_DIR)
    assert len(list(directory.glob("heartbeat-url-*.down"))) == 1
    receiver.mode = "ok"
    ticked(in_fork)
    assert list(directory.glob("heartbeat-url-*.down")) == []
