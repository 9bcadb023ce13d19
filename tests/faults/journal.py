"""Records that jobs keep outside of the product: an append-only file and kernel locks.

The product itself is not trusted to detect two instances of a job at the same time. Each
instance takes a flock(2) of its job as its first act, without waiting. Where that fails, another
instance is alive, and this is recorded at once, and again when the lock is finally acquired. The
kernel gives a lock back when the last process that has it open is dead, so that a daemon which a
job left behind counts as the job.

Times are CLOCK_BOOTTIME in seconds, which all processes of a machine share and nobody can set.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

DIRECTORY_VARIABLE = "CHRONIKER_FAULTS_DIR"
Entry = dict[str, Any]


def boottime() -> float:
    """Seconds since boot, including suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file of JSON lines to which any number of processes append."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / "journal.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self.path, flags, 0o600)

    def write(self, what: str, **facts: Any) -> float:
        """Append an entry in a single write, which the kernel does not mix with others."""
        at = boottime()
        line = json.dumps({"what": what, "t": at, "pid": os.getpid(), **facts}) + "\n"
        os.write(self._fd, line.encode())
        return at

    def close(self) -> None:
        os.close(self._fd)


def read(directory: str | os.PathLike[str]) -> list[Entry]:
    """All entries, in the order in which they were written."""
    path = Path(directory) / "journal.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class RunLog:
    """Records one instance of a job. ``lock``: what only one instance may hold at a time."""

    def __init__(self, behaviour: str, lock: str) -> None:
        directory = os.environ[DIRECTORY_VARIABLE]
        self.facts = {
            "run": int(os.environ["CHRONIKER_RUN_ID"]),
            "job": os.environ["CHRONIKER_JOB_NAME"],
            "host": os.environ.get("CHRONIKER_FAULTS_HOST", ""),
        }
        # First, before anything is written.
        self._lock = os.open(
            os.path.join(directory, f"job-{lock}.lock"), os.O_RDWR | os.O_CREAT, 0o600
        )
        holder: Entry | None = None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
        self.journal = Journal(directory)
        if holder is not None:
            self.journal.write("overlap", holder=holder, **self.facts)
            threading.Thread(target=self._wait_for_holder, daemon=True).start()
        else:
            self._write_holder()
        self.journal.write("begin", behaviour=behaviour, **self.facts)

    def end(self, *, ok: bool) -> None:
        """Record that the work is done; the process ends right after."""
        self.journal.write("end", ok=ok, **self.facts)

    def note(self, what: str, **facts: Any) -> None:
        self.journal.write(what, **self.facts, **facts)

    def _write_holder(self) -> None:
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps({**self.facts, "pid": os.getpid()}).encode(), 0)

    def _holder(self) -> Entry:
        with contextlib.suppress(ValueError):
            found: Entry = json.loads(os.pread(self._lock, 4096, 0))
            return found
        return {}

    def _wait_for_holder(self) -> None:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._write_holder()
        self.journal.write("overlap_over", **self.facts)
