"""Celery workers of an experiment: real ones, each in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.hosts import alive, proc_children, tree
from tests.support.machine import REPO

# What celery_site reads from the environment.
BROKER_VARIABLE = "CHRONIKER_FAULTS_BROKER"
ACKS_VARIABLE = "CHRONIKER_FAULTS_ACKS"
PREFETCH_VARIABLE = "CHRONIKER_FAULTS_PREFETCH"
MUTANT_VARIABLE = "CHRONIKER_FAULTS_MUTANT"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The configuration of a worker."""

    name: str
    """Its name in Celery, with an ``@``."""
    directory: Path
    runtime_dir: Path
    queue: str
    acks: str
    """``early`` or ``late``."""
    prefetch: int
    environment: dict[str, str] = field(default_factory=dict)
    processes: int = 2


class CeleryWorker:
    """A worker as the injector sees it."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.name = config.name
        self.frozen: set[int] = set()
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPO),
            "CHRONIKER_FAULTS_HOST": config.name,
            "CHRONIKER_FAULTS_RUNTIME_DIR": str(config.runtime_dir),
            ACKS_VARIABLE: config.acks,
            PREFETCH_VARIABLE: str(config.prefetch),
            **config.environment,
        }
        config.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments = [
            "worker", "--queues", config.queue, "--concurrency", str(config.processes),
            "--hostname", config.name, "--loglevel", "INFO", "--without-gossip",
            "--without-mingle",
        ]  # fmt: skip
        with (config.directory / f"{config.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.faults.celery_site", *arguments],
                env=environment, cwd=config.directory, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.pid = self._process.pid

    def tree(self) -> list[int]:
        return tree(self.pid)

    def children(self) -> list[int]:
        """The processes of the pool."""
        return [pid for pid in proc_children(self.pid) if alive(pid)]

    def wardens(self) -> list[int]:
        forkservers = [pid for child in self.children() for pid in proc_children(child)]
        return [pid for each in forkservers for pid in proc_children(each) if alive(pid)]

    def jobs(self) -> list[int]:
        return [pid for warden in self.wardens() for pid in proc_children(warden) if alive(pid)]

    def freeze(self) -> None:
        """Freeze everything, as a suspended machine does."""
        while more := [pid for pid in self.tree() if pid not in self.frozen and alive(pid)]:
            for pid in more:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            self.frozen.update(more)

    def thaw(self) -> None:
        for pid in reversed(self.tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    def kill(self) -> list[int]:
        """Kill the main process; what was below it."""
        below = self.tree()[1:]
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait()
        return below

    def shut_down(self) -> None:
        """Ask it to end in order."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def ended(self) -> bool:
        return self._process.poll() is not None
