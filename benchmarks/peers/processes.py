"""The processes of a scheduler: what they cost, and how they are killed."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from .servers import SITE


class Processes:
    """Processes that belong to a scheduler, with their children."""

    def __init__(self, python: Path, environ: Mapping[str, str], log: Path) -> None:
        self.python, self.environ, self.log = python, environ, log
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *commands: Sequence[str]) -> None:
        """Start processes of the scheduler's Python."""
        for command in commands:
            with self.log.open("ab") as output:
                self.started.append(
                    subprocess.Popen(
                        [str(self.python), *command], cwd=SITE, env=dict(self.environ),
                        stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    )
                )  # fmt: skip

    @property
    def alive(self) -> bool:
        """Whether any of them still runs."""
        return any(process.poll() is None for process in self.started)

    def tree(self) -> list[psutil.Process]:
        """Return all of them with their descendants."""
        found: list[psutil.Process] = []
        for process in self.started:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(process.pid)
                found += [root, *root.children(recursive=True)]
        return found

    def cpu_seconds(self) -> float:
        """Return what they have used, with children that have ended."""
        total = 0.0
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def pss_bytes(self) -> int:
        """Return their memory; pages that several share are divided among them."""
        total = 0
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().pss
        return total

    def kill(self, *, with_children: bool) -> None:
        """Send SIGKILL: to what was started, as the OOM killer does, or to everything."""
        children = self._of_this_scheduler() if with_children else iter(())
        for process in self.started:
            process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for process in self.started:
            process.wait()
        self.started.clear()

    def stop(self) -> None:
        """End everything that this scheduler has left, children of killed processes included."""
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 5
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.1)
        for left in self._of_this_scheduler():
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        for process in self.started:
            process.wait()
        self.started.clear()

    def _of_this_scheduler(self) -> Iterator[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.environ().get("PEERS_LOG") == self.environ["PEERS_LOG"]:
                    found.append(process)
        return iter(found)
