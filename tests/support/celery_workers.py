"""Real Celery workers for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from django.db import connections

from chroniker.models import Worker

from .machine import REPO
from .processes import wait_until

BROKERS = {
    "redis": "redis://127.0.0.1:6379/9",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


@dataclass
class CeleryWorker:
    """A worker process with its pool."""

    queue: str
    broker: str
    log: Path
    concurrency: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"test-{uuid.uuid4().hex[:8]}@worker")
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**worker_environment(), "TEST_BROKER": self.broker, **self.environment}
        arguments = [
            "worker", "--queues", self.queue, "--concurrency", str(self.concurrency),
            "--hostname", self.name, "--loglevel", "INFO", "--without-gossip", "--without-mingle",
            "--without-heartbeat",
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.support.celery_site", *arguments],
                env=environment,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        wait_until(self.is_reported, 30, message=f"{self.name} to report")

    def is_reported(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return Worker.objects.live().filter(name=self.name).exists()

    def children(self) -> list[psutil.Process]:
        """The processes of the pool."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        """Kill the main process and the pool, as an out-of-memory killer would."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)


def worker_environment() -> dict[str, str]:
    """The environment of a worker of the test site on this database."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return own | {
        "DJANGO_SETTINGS_MODULE": "tests.support.celery_settings",
        "PYTHONPATH": str(REPO),
        "CHRONIKER_TEST_DB_NAME": str(connections["default"].settings_dict["NAME"]),
    }


def use_workers(settings: Any, queue: str) -> None:
    """Let the site publish to the queue, with the leases of the workers."""
    settings.CHRONIKER_QUEUE = queue
    settings.CHRONIKER_LEASE_SECONDS = 6
    settings.CHRONIKER_LEASE_RENEW_SECONDS = 0.5
    settings.CHRONIKER_KILL_GRACE_SECONDS = 1
    settings.CHRONIKER_ALLOW_RAW_COMMANDS = True


def new_queue() -> str:
    return f"chroniker-test-{uuid.uuid4().hex}"


@contextmanager
def run_celery_worker(
    broker: str, directory: Path, *, queue: str = "", concurrency: int = 1, **environment: str
) -> Iterator[CeleryWorker]:
    """A worker that consumes a queue of its own; killed at the end."""
    worker = CeleryWorker(
        queue or new_queue(), BROKERS[broker], directory / "celery.log", concurrency, environment
    )
    worker.start()
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.kill()
