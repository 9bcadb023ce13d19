"""The workers of a batch, as its guard sees them."""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chroniker.enums import RunStatus

from .batch_spec import MAX_WORKERS
from .batch_worker import ITEM, MAX_REPORT_BYTES, WorkerPipes
from .process_tree import descendants, signal_processes

BUSY_SECONDS = 0.1
"""A worker that sleeps after this time waits for something: another one may use its core."""
EXIT_SECONDS = 3.0
"""How long a worker may take to exit when it is not needed any more: it flushes what it holds."""
MAX_OUTPUT_BYTES = 64 * 1024
"""How much of each stream of an item is kept: half of it from the start, half from the end."""
_READ_BYTES = 64 * 1024
_OUTPUT = ("stdout", "stderr", "log")

Target = Callable[[WorkerPipes], None]
"""What a worker does; it does not return."""


class ItemOutput:
    """What the item in progress has written: the beginning and the end of each stream."""

    __slots__ = ("_kept", "_sizes")

    def __init__(self) -> None:
        self._kept: dict[str, bytearray] = {}
        self._sizes: dict[str, int] = {}

    def add(self, stream: str, data: bytes) -> None:
        """Append what was read from a stream."""
        kept = self._kept.setdefault(stream, bytearray())
        kept += data
        self._sizes[stream] = self._sizes.get(stream, 0) + len(data)
        half = MAX_OUTPUT_BYTES // 2
        if len(kept) > MAX_OUTPUT_BYTES:
            del kept[half:-half]

    def take(self) -> dict[str, tuple[str, str, int]]:
        """Return ``stream: (beginning, end, size)``, both as Base64, and forget it."""
        half = MAX_OUTPUT_BYTES // 2
        taken = {}
        for stream, kept in self._kept.items():
            size = self._sizes[stream]
            cut = half if size > MAX_OUTPUT_BYTES else len(kept)
            head, tail = (base64.b64encode(part).decode() for part in (kept[:cut], kept[cut:]))
            taken[stream] = (head, tail, size)
        self._kept, self._sizes = {}, {}
        return taken


@dataclass(slots=True, eq=False)
class Worker:
    """A worker and the item that it executes."""

    pid: int
    pidfd: int
    slot: int
    """Its number on the shared page."""
    channel: socket.socket
    pipes: dict[int, str]
    """File descriptor to the stream that is read from it."""
    item: int | None = None
    began: float = 0.0
    """When it began the item, CLOCK_MONOTONIC, seconds."""
    ending: RunStatus | None = None
    """How the item ends, if the guard ends it."""
    kill_at: float = float("inf")
    """When it is killed, CLOCK_MONOTONIC, seconds."""
    retired: bool = False
    """Whether it gets no more items."""
    output: ItemOutput = field(default_factory=ItemOutput)

    def begin(self, item: int, now: float) -> None:
        """Send it an item."""
        self.item, self.began, self.ending = item, now, None
        with contextlib.suppress(OSError):  # it has died
            self.channel.send(ITEM.pack(item))

    def is_waiting(self, now: float) -> bool:
        """Whether its item waits for something, and not for a core."""
        if now - self.began < BUSY_SECONDS:
            return False
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1] != b"R"
        except OSError:
            return True

    def end_item(self, ending: RunStatus, grace: float, now: float) -> None:
        """End it, because of its item: SIGTERM, the grace time, SIGKILL."""
        if self.ending is None:
            self.ending, self.retired, self.kill_at = ending, True, now + grace
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)

    def retire(self, now: float) -> None:
        """Let it exit."""
        self.retired, self.kill_at = True, min(self.kill_at, now + EXIT_SECONDS)
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)


class Pool:
    """Forks workers, reads from them, and buries them.

    ``cores``: how many are to work at one time. ``limit``: how many may exist. ``target`` is called
    in each worker. ``on_report`` is called with each message of a worker.
    """

    def __init__(
        self,
        cores: int,
        limit: int,
        target: Target,
        on_report: Callable[[Worker, bytes], None],
    ) -> None:
        self._cores = cores
        self._limit = min(limit, MAX_WORKERS)
        self._target = target
        self._on_report = on_report
        self._selector = selectors.EpollSelector()
        self.workers: dict[int, Worker] = {}
        """By process id."""

    def available(self, now: float) -> Worker | None:
        """A worker without an item, forked if too few are working; None: there is no other.

        Raises OSError if the only worker cannot be forked.
        """
        usable = [worker for worker in self.workers.values() if not worker.retired]
        for worker in usable:
            if worker.item is None:
                return worker
        working = sum(not worker.is_waiting(now) for worker in usable)
        if working >= self._cores or len(self.workers) >= self._limit:
            return None
        try:
            return self._fork()
        except OSError:
            if self.workers:
                return None
            raise

    def _fork(self) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_REPORT_BYTES)
        ends: list[tuple[int, int]] = []
        try:
            ends += (os.pipe2(os.O_CLOEXEC) for _ in _OUTPUT)
            pid = os.fork()
        except OSError:
            for fd in (fd for pair in ends for fd in pair):
                os.close(fd)
            raise
        if pid == 0:
            try:
                self._selector.close()
                ours.close()
                for reading, _ in ends:
                    os.close(reading)
                for worker in self.workers.values():
                    self._close(worker)
                self._target(WorkerPipes(theirs, *(writing for _, writing in ends)))
            finally:
                os._exit(1)
        theirs.close()
        for reading, writing in ends:
            os.close(writing)
            os.set_blocking(reading, False)
        with contextlib.suppress(OSError):  # the worker does the same; whoever is first
            os.setpgid(pid, pid)
        used = {worker.slot for worker in self.workers.values()}
        worker = Worker(
            pid=pid,
            pidfd=os.pidfd_open(pid),
            slot=next(slot for slot in range(MAX_WORKERS) if slot not in used),
            channel=ours,
            pipes={reading: stream for (reading, _), stream in zip(ends, _OUTPUT, strict=True)},
        )
        self.workers[pid] = worker
        for fd in (worker.pidfd, ours.fileno(), *worker.pipes):
            self._selector.register(fd, selectors.EVENT_READ, worker)
        return worker

    @staticmethod
    def _close(worker: Worker) -> None:
        worker.channel.close()
        os.close(worker.pidfd)
        for fd in worker.pipes:
            os.close(fd)

    def poll(self, timeout: float) -> None:
        """Wait up to ``timeout`` seconds for something to happen, and read it."""
        events = [(key.fd, key.data) for key, _ in self._selector.select(timeout)]
        # Output first: it was written before the report, and belongs to the same item.
        for fd, worker in events:
            if fd in worker.pipes:
                self._read_output(worker, fd)
        for fd, worker in events:
            if fd == worker.channel.fileno():
                self._read_channel(worker)

    def _read_output(self, worker: Worker, fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(fd, _READ_BYTES):
                worker.output.add(worker.pipes[fd], data)
                if len(data) < _READ_BYTES:
                    return  # whoever writes without end must not keep us here
            self._selector.unregister(fd)
            del worker.pipes[fd]
            os.close(fd)

    def _read_channel(self, worker: Worker) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if data := worker.channel.recv(2 * MAX_REPORT_BYTES, socket.MSG_DONTWAIT):
                self._on_report(worker, data)
                return
        # It has died, or its item has closed all files: then it cannot report anything any more.
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.channel)
        worker.retired, worker.kill_at = True, 0.0

    def kill_overdue(self, now: float) -> None:
        """Kill the workers whose grace time is over, and all that they have started."""
        for worker in self.workers.values():
            if now >= worker.kill_at:
                signal_processes([*descendants(worker.pid), worker.pid], signal.SIGKILL)

    def reap(self) -> Iterator[tuple[Worker, int]]:
        """Bury the workers that have died: each with its wait status."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            worker = self.workers.get(pid)
            if worker is None:
                continue  # a process that an item had left behind
            for fd in list(worker.pipes):
                self._read_output(worker, fd)
            with contextlib.suppress(OSError):
                while data := worker.channel.recv(2 * MAX_REPORT_BYTES, socket.MSG_DONTWAIT):
                    self._on_report(worker, data)
            del self.workers[pid]
            for fd in (worker.pidfd, worker.channel.fileno(), *worker.pipes):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(fd)
            self._close(worker)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            self.kill_strays()
            yield worker, status

    def kill_strays(self) -> None:
        """Kill what items have left behind: this process is the parent of orphans."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
            strays = [pid for pid in map(int, text.split()) if pid not in self.workers]
            below = [other for pid in strays for other in descendants(pid)]
            signal_processes([*below, *strays], signal.SIGKILL)

    def close(self) -> None:
        """Let the workers exit, and kill those that do not."""
        for worker in self.workers.values():
            worker.retire(time.monotonic())
        while self.workers:
            self.poll(0.1)
            for _ in self.reap():
                pass
            self.kill_overdue(time.monotonic())
        self._selector.close()
