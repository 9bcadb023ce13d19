"""Real Celery workers, killed and shut down, and a broker that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chroniker.models import JobState, Run, Worker
from tests.factories import make_action_job
from tests.support.celery_workers import CeleryWorker, run_celery_worker, use_workers
from tests.support.machine import free_port, require
from tests.support.processes import is_alive, wait_until
from tests.support.types import RunTick, StartTick

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.one_database,
]

BROKER = "rabbitmq"
"""The contract of executors uses the other one on this database."""


@pytest.fixture(autouse=True)
def site(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("celery")
    require(BROKER)
    use_workers(settings, "nobody")
    settings.CHRONIKER_CELERY_APP = "tests.support.celery_site.app"
    settings.CHRONIKER_EXECUTOR = "celery"


@pytest.fixture
def worker(
    transactional_db: None, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CeleryWorker]:
    """A worker of this test."""
    with run_celery_worker(BROKER, tmp_path, concurrency=2) as made:
        monkeypatch.setenv("TEST_BROKER", made.broker)
        settings.CHRONIKER_QUEUE = made.queue
        yield made


def start_sleeping(start_tick: StartTick, tmp_path: Path, **fields: Any) -> tuple[Run, int]:
    """A run that sleeps on the worker, and the process id of its job."""
    started = tmp_path / "started"
    job = make_action_job(f"sleep 60 {started}", **fields)
    start_tick()
    wait_until(started.exists, 30)
    return Run.objects.get(job=job), int(started.read_text())


def test_killed_process_of_a_worker_loses_its_run_and_a_shutdown_interrupts_the_next(
    worker: CeleryWorker, start_tick: StartTick, run_tick: RunTick, tmp_path: Path
) -> None:
    run, pid = start_sleeping(start_tick, tmp_path)
    for child in worker.children():
        os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), 5)

    def is_lost() -> bool:
        run_tick()
        run.refresh_from_db()
        return run.status == "lost"

    wait_until(is_lost, 30, interval=0.5)
    assert worker.name in run.error

    (tmp_path / "started").unlink()
    run, pid = start_sleeping(start_tick, tmp_path)
    worker.stop()
    assert not is_alive(pid)
    run.refresh_from_db()
    assert (run.status, run.ran_on) == ("interrupted", worker.name), run.error
    state = JobState.objects.get(job=run.job_id)
    assert (state.restart_slot_at, state.restart_attempt) == (run.scheduled_for, 2)
    assert not Worker.objects.exists(), "it takes no more runs"


def test_broker_that_is_gone_blocks_the_job_and_loses_no_slot(
    transactional_db: None, run_tick: RunTick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_BROKER", f"redis://127.0.0.1:{free_port()}/0")
    Worker.objects.record("cut off", "celery", ["nobody"], 1, "")
    job = make_action_job("say hello")
    result = run_tick()
    state = JobState.objects.get(job=job)
    assert (result.exit_code, state.blocked_reason) == (0, "queue")
    assert "cannot be reached" in state.blocked_detail and "***" not in result.output
    assert state.due_at is not None and not Run.objects.exists()


def test_worker_that_cannot_report_tries_again(
    transactional_db: None, caplog: pytest.LogCaptureFixture
) -> None:
    from chroniker.workers.celery import Presence

    connected = SimpleNamespace(connected=True)
    consumer = SimpleNamespace(hostname="w1", task_consumer=object(), connection=connected)
    Presence()._record(consumer)
    assert "could not report that it is alive" in caplog.text
    consumer.task_consumer = SimpleNamespace(queues=[SimpleNamespace(name="shop")])
    consumer.pool = None
    Presence()._record(consumer)
    assert Worker.objects.get().queues == ["shop"]
