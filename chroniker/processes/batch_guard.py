"""The guard of a batch: hands its runs to workers, and contains what an item does to a worker.

It is the job of a warden, so what holds for a job holds for the whole batch: it dies with its
scheduler, and when its lease ends. It loads what the items need, closes its connections and forks
workers, as many as there are cores. If one sleeps, because its item waits for something, another
one may use its core. A worker that dies, hangs or is changed by an item is replaced; the item that
was in progress then has failed, and no other item is affected.
"""

from __future__ import annotations

import gc
import json
import os
import select
import time
from collections import deque
from collections.abc import Mapping, Sequence

from chroniker.batches import BatchItem, BatchRunner
from chroniker.enums import RunStatus
from chroniker.extensions import batch_runner

from .batch_pool import Pool, Worker
from .batch_spec import BatchPage, BatchSpec
from .batch_worker import WorkerPipes, run_worker
from .child import become_fresh
from .warden import become_subreaper

_POLL_SECONDS = 0.05
"""The longest time until a stop request or the end of a time limit is noticed."""
_STRAYS_SECONDS = 1.0
"""How often processes that an item has left behind are looked for."""
_LOAD_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds before the items are loaded again, after the database could not be read."""
_FLUSH_SECONDS = 0.03
"""How long a result waits for others before it is sent."""


def run_guard(spec: BatchSpec, page: BatchPage, results: int) -> int:
    """Execute a batch; ``results`` is the descriptor to which results go. Returns the exit code.

    Raises LookupError if no app has registered the runner, or what loading the items raises; an
    outage of the database only if it lasts for seconds.
    """
    from chroniker.db.connections import before_fork

    become_fresh()
    runner = batch_runner(spec.runner)
    if runner is None:
        raise LookupError(f"no installed app executes batches of {spec.runner!r}")
    items = [BatchItem(entry.spec.run_id, entry.job, entry.host) for entry in spec.entries]
    tasks = _load(runner, items)
    before_fork()
    become_subreaper()
    gc.collect()
    gc.freeze()
    _Guard(spec, runner, tasks, page, _ResultPipe(results)).run()
    return 0


def _load(runner: BatchRunner, items: Sequence[BatchItem]) -> Sequence[object]:
    """Load the items; again if the database has too many connections, or is restarted."""
    from django.db import InterfaceError, OperationalError

    from chroniker.db.connections import close_connections

    for pause in _LOAD_PAUSES:
        try:
            return runner.load(items)
        except (OperationalError, InterfaceError):
            close_connections()
            time.sleep(pause)
    return runner.load(items)


class _ResultPipe:
    """Sends results to the scheduler, several at a time, without waiting for it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._data = bytearray()
        self._send_at = 0.0
        os.set_blocking(fd, False)

    def add(self, facts: Mapping[str, object], now: float) -> None:
        """Append a result."""
        if not self._data:
            self._send_at = now + _FLUSH_SECONDS
        self._data += json.dumps(facts).encode() + b"\n"

    def flush(self, now: float) -> float:
        """Send what is due; return the seconds until more is due."""
        if not self._data:
            return _POLL_SECONDS
        if now >= self._send_at:
            try:
                del self._data[: os.write(self._fd, self._data)]
            except BlockingIOError:
                self._send_at = now + _FLUSH_SECONDS
        return min(max(0.0, self._send_at - now), _POLL_SECONDS) if self._data else _POLL_SECONDS

    def drain(self) -> None:
        """Send everything, however long it takes."""
        while self._data:
            select.select([], [self._fd], [])
            del self._data[: os.write(self._fd, self._data)]


class _Guard:
    def __init__(
        self,
        spec: BatchSpec,
        runner: BatchRunner,
        tasks: Sequence[object],
        page: BatchPage,
        results: _ResultPipe,
    ) -> None:
        guard = os.getpid()

        def work(pipes: WorkerPipes) -> None:
            run_worker(runner, spec.entries, tasks, pipes, guard)

        self._entries = spec.entries
        self._page = page
        self._results = results
        self._pool = Pool(len(os.sched_getaffinity(0)), spec.max_workers, work, self._read_report)
        self._waiting = deque(range(len(spec.entries)))
        self._unfinished = set(self._waiting)

    def run(self) -> None:
        """Execute all items."""
        strays_at = time.monotonic() + _STRAYS_SECONDS
        while self._unfinished:
            now = time.monotonic()
            self._stop_requested(now)
            self._dispatch(now)
            self._pool.poll(self._results.flush(now))
            now = time.monotonic()
            self._bury_dead(now)
            self._enforce_limits(now)
            if now >= strays_at:
                self._pool.kill_strays()
                strays_at = now + _STRAYS_SECONDS
        self._results.drain()
        self._pool.close()

    def _dispatch(self, now: float) -> None:
        while self._waiting and (worker := self._pool.available(now)) is not None:
            item = self._waiting.popleft()
            self._page.begin(worker.slot, item)
            worker.begin(item, now)

    def _stop_requested(self, now: float) -> None:
        """End the items that the scheduler wants to stop."""
        for item in self._unfinished.intersection(self._page.stopped()):
            if item in self._waiting:
                self._waiting.remove(item)
                self._finish({"item": item, "status": RunStatus.STOPPED})
            for worker in self._pool.workers.values():
                if worker.item == item:
                    worker.end_item(RunStatus.STOPPED, self._entries[item].grace_seconds, now)

    def _enforce_limits(self, now: float) -> None:
        for worker in self._pool.workers.values():
            if worker.item is None:
                continue
            entry = self._entries[worker.item]
            if entry.timeout_seconds and now >= worker.began + entry.timeout_seconds:
                worker.end_item(RunStatus.TIMED_OUT, entry.grace_seconds, now)
        self._pool.kill_overdue(now)

    def _read_report(self, worker: Worker, data: bytes) -> None:
        """A worker has ended its item."""
        report = json.loads(data)
        if worker.item is None or report["item"] != worker.item:
            return
        worker.item = None
        self._page.end(worker.slot)
        if report["changed"]:
            worker.retire(time.monotonic())
        ending = {"status": worker.ending} if worker.ending else {}
        self._finish({**report, **ending, "output": worker.output.take()})

    def _bury_dead(self, now: float) -> None:
        """The item of a worker that has died before it reported has failed."""
        for worker, status in self._pool.reap():
            if worker.item is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            self._page.end(worker.slot)
            self._finish(
                {
                    "item": worker.item,
                    "status": worker.ending or RunStatus.FAILED,
                    "signal" if code < 0 else "code": abs(code),
                    "seconds": now - worker.began,
                    "output": worker.output.take(),
                }
            )

    def _finish(self, facts: Mapping[str, object]) -> None:
        self._unfinished.discard(int(str(facts["item"])))
        self._results.add(facts, time.monotonic())
