"""A worker of a batch: executes one item after the other, until an item has changed the process.

It is forked by the guard, gets the number of an item through a socket, and answers with a JSON
object. What an item writes to stdout, stderr and ``logging`` goes through pipes to the guard, which
knows what the worker is executing.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from chroniker import progress, run_context
from chroniker.batches import BatchRunner, ItemResult, Payload
from chroniker.masking import shorten

from .batch_spec import BatchEntry
from .child import attempt, become_fresh, capture_logging, run_exit_handlers
from .process_state import (
    MAX_GROWTH_BYTES,
    MAX_NEW_FILES,
    ProcessState,
    count_files,
    count_threads,
    environment,
    private_bytes,
)
from .warden import die_with_parent

ITEM = struct.Struct("=i")
"""The number of an item, as the guard sends it."""
MAX_REPORT_BYTES = 128 * 1024
"""The largest report: a message of the socket has to fit into its buffer."""
_MAX_ERROR_LENGTH = 1500
_THREAD_SECONDS = 0.05
"""How long a thread that an item has started, and that is about to end, may take."""


@dataclass(frozen=True, slots=True)
class ItemReport:
    """How an item ended, as the worker reports it."""

    item: int
    code: int
    error: str
    seconds: float
    cpu_seconds: float
    payload: Payload = field(default_factory=dict)
    changed: str = ""
    """What the item has changed in the worker, which is then replaced; empty: nothing."""

    def dump(self) -> bytes:
        """Serialize it. A payload that JSON cannot hold, or that is too large, is an error."""
        values = {name: getattr(self, name) for name in _REPORT}
        try:
            data = json.dumps(values).encode()
        except (TypeError, ValueError) as error:
            return self._without_payload(f"The result cannot be stored: {error}")
        if len(data) > MAX_REPORT_BYTES:
            return self._without_payload(f"The result is too large: {len(data)} bytes.")
        return data

    def _without_payload(self, error: str) -> bytes:
        failed = replace(self, payload={}, error=shorten(error, _MAX_ERROR_LENGTH), code=1)
        return json.dumps({name: getattr(failed, name) for name in _REPORT}).encode()


_REPORT = tuple(each.name for each in fields(ItemReport))


@dataclass(frozen=True, slots=True)
class WorkerPipes:
    """The worker's ends of its channel and of the pipes of its output."""

    channel: socket.socket
    stdout: int
    stderr: int
    log: int


def run_worker(
    runner: BatchRunner,
    entries: Sequence[BatchEntry],
    tasks: Sequence[object],
    pipes: WorkerPipes,
    guard: int,
) -> None:
    """Execute items until the guard closes the channel; does not return."""
    try:
        die_with_parent(guard)
        os.setpgid(0, 0)
        _prefer_for_oom_killer()
        os.dup2(pipes.stdout, 1)
        os.dup2(pipes.stderr, 2)
        os.close(pipes.stdout)
        os.close(pipes.stderr)
        _Worker(runner, entries, tasks, pipes).run()
        with contextlib.suppress(BaseException):
            run_exit_handlers()
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"The worker failed: {type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _prefer_for_oom_killer() -> None:
    """Let the kernel kill this process, rather than its guard or the scheduler (proc(5))."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as file:
        score = min(int(file.read()) + 300, 1000)
        file.seek(0)
        file.write(str(score))


class _Worker:
    def __init__(
        self,
        runner: BatchRunner,
        entries: Sequence[BatchEntry],
        tasks: Sequence[object],
        pipes: WorkerPipes,
    ) -> None:
        from chroniker.logs import remove_json_handlers

        self._runner = runner
        self._entries = entries
        self._tasks = tasks
        self._channel = pipes.channel
        consoles = become_fresh()
        progress.attach(None)
        remove_json_handlers()
        spec = entries[0].spec
        capture_logging(pipes.log, spec.log_level, spec.log_format, consoles)
        self._memory = private_bytes()
        self._files = count_files()
        self._state = ProcessState.take()

    def run(self) -> None:
        """Execute items until the channel is closed or an item has changed this process."""
        while data := self._channel.recv(ITEM.size):
            (item,) = ITEM.unpack(data)
            report = self._execute(item)
            self._channel.send(report.dump())
            if report.changed:
                return

    def _execute(self, item: int) -> ItemReport:
        from django.db import reset_queries

        from chroniker.signals import job_process_started

        spec = self._entries[item].spec
        run_context.attach(spec.current_run())
        reset_queries()
        variables = environment()
        result = ItemResult()

        def execute() -> None:
            nonlocal result
            result = self._runner.run(self._tasks[item])
            if result.error is not None:
                raise result.error

        job_process_started.send_robust(sender=None, spec=spec)
        began, cpu_before = time.monotonic(), time.process_time()
        end = attempt(spec, execute)
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu_before
        return ItemReport(
            item=item,
            code=end.code & 0xFF,
            error=shorten(end.error, _MAX_ERROR_LENGTH),
            seconds=seconds,
            cpu_seconds=cpu,
            payload=result.payload,
            changed=self._find_change(variables),
        )

    def _find_change(self, variables: dict[bytes, bytes]) -> str:
        """What the item has left changed; empty if the next item finds this process as it was."""
        from django.db import connections

        for connection in connections.all(initialized_only=True):
            # Not get_autocommit(), which opens a connection that is closed.
            opened = connection.connection is not None
            if connection.in_atomic_block or (opened and not connection.autocommit):
                return "transaction"
        if _has_children():
            return "children"
        if environment() != variables:
            return "environment"
        _wait_for_threads(self._state.threads)
        if difference := self._state.difference(ProcessState.take()):
            return difference
        if private_bytes() > self._memory + MAX_GROWTH_BYTES:
            return "memory"
        return "files" if count_files() > self._files + MAX_NEW_FILES else ""


def _has_children() -> bool:
    """Whether this process has children, alive or not."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _wait_for_threads(expected: int) -> None:
    """Give threads that have returned their result a moment to end."""
    give_up_at = time.monotonic() + _THREAD_SECONDS
    while count_threads() > expected and time.monotonic() < give_up_at:
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(max(0.0, give_up_at - time.monotonic()))
        time.sleep(0.0002)  # the kernel's thread ends after Python's
