"""Groups of processes that end together."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

PR_SET_PDEATHSIG = 1
MARKER_VARIABLE = "DEMO_STARTED_BY"
"""Environment variable that all processes of a group inherit."""
_libc = ctypes.CDLL(None)


class DemoError(Exception):
    """The demo cannot continue; the message says why."""


class ProcessGroup:
    """Named processes with a common directory and environment."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._directory = directory
        self._marker = uuid.uuid4().hex
        self.env = {**os.environ, **env, MARKER_VARIABLE: self._marker}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start_python(self, name: str, arguments: list[str], **env: str) -> None:
        """Start a Python program; it writes to the terminal."""
        self._start(name, [sys.executable, *arguments], env, None)

    def start_program(self, name: str, command: list[str], log: Path, **env: str) -> None:
        """Start another program; its output is written to a file."""
        with log.open("wb") as file:
            self._start(name, command, env, file)

    def _start(
        self, name: str, command: list[str], env: Mapping[str, str], output: IO[bytes] | None
    ) -> None:
        self._children[name] = subprocess.Popen(
            command,
            cwd=self._directory,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # In separate sessions: only this process receives Ctrl-C, and stops them in order.
            start_new_session=True,
            preexec_fn=_terminate_with_parent,
        )

    def check(self) -> None:
        """Raise DemoError if a process has ended by itself."""
        for name, child in self._children.items():
            if child.poll() is not None:
                raise DemoError(f"{name} ended by itself with exit code {child.returncode}.")

    def wait(self) -> None:
        """Wait as long as all processes run."""
        while True:
            self.check()
            time.sleep(0.5)

    def stop(self, name: str, seconds: float = 20) -> int:
        """Stop a process, with SIGKILL after ``seconds``; return its exit code."""
        child = self._children.pop(name)
        child.terminate()
        try:
            return child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def running(self) -> list[psutil.Process]:
        """Return every process that the group has started, directly or indirectly."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARKER_VARIABLE) == self._marker:
                    found.append(process)
        return found

    def close(self) -> None:
        """End every process of the group."""
        for name in reversed(list(self._children)):
            self.stop(name)
        for process in self.running():
            process.kill()


def _terminate_with_parent() -> None:
    """In the child: have the kernel send SIGTERM when this program is killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
