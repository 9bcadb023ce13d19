"""Processes that tests start, and waiting for what they do."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

import psutil
import pytest
from django.db import connections

from tests.settings import SCRATCH

if TYPE_CHECKING:
    pass
import subprocess

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, interval: float = 0.02, message: str = ""
) -> T:
    """The first true result of ``predicate``; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (result := predicate()):
        if time.monotonic() >= deadline:
            what = message or getattr(predicate, "__name__", repr(predicate))
            raise AssertionError(f"waited {timeout:g} s for: {what} (last: {result!r})")
        time.sleep(interval)
    return result


# --- processes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """The exit and the output of a forked process."""

    exit_code: int | None  # None: ended by a signal
    signal: signal.Signals | None
    stdout: str
    stderr: str
    value: Any  # what the function returned, if it returned and it could be pickled
    seconds: float

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass(slots=True)
class ForkedProcess:
    """A fork of the pytest process that runs a function; made by :func:`fork`."""

    pid: int
    what: str
    _pidfd: int
    _files: tuple[IO[bytes], IO[bytes], IO[bytes]]
    _began: float = field(default_factory=time.monotonic)
    _ended: ProcessResult | None = None

    @property
    def alive(self) -> bool:
        return self._ended is None and not self._readable(0)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal, to this process only; nothing happens if it has ended."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signum)

    def wait(self, timeout: float = 60.0) -> ProcessResult:
        """Wait for the result; after ``timeout`` seconds kill it and raise AssertionError."""
        if self._ended is None:
            in_time = self._readable(timeout)
            if not in_time:
                for process in [*_descendants(self.pid), psutil.Process(self.pid)]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            _, status = os.waitpid(self.pid, 0)
            self._ended = self._collect(status)
            os.close(self._pidfd)
            if not in_time:
                raise AssertionError(
                    f"{self.what} still ran after {timeout:g} s and was killed; it had said:\n"
                    f"{self._ended.output}"
                )
        return self._ended

    def _readable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def _collect(self, status: int) -> ProcessResult:
        out, err, value = (self._read(file) for file in self._files)
        code = os.waitstatus_to_exitcode(status)
        return ProcessResult(
            exit_code=code if code >= 0 else None,
            signal=signal.Signals(-code) if code < 0 else None,
            stdout=out.decode("utf-8", "backslashreplace"),
            stderr=err.decode("utf-8", "backslashreplace"),
            value=pickle.loads(value) if value else None,
            seconds=time.monotonic() - self._began,
        )

    @staticmethod
    def _read(file: IO[bytes]) -> bytes:
        with file:
            file.seek(0)
            return file.read()


def fork(function: Callable[..., Any], *args: Any, **kwargs: Any) -> ForkedProcess:
    """Run a function in a fork of this process: about 5 ms, where a new Python takes 500.

    The child has its standard output and error in files, no database connection, and leaves by
    ``os._exit``: 0, or what SystemExit says, or 1 with a traceback for any other exception.
    Connections are closed before the fork, because a child that closes an inherited one ends
    the parent's session with it; inside a transaction that cannot be done.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            raise AssertionError("fork inside a transaction: use django_db(transaction=True)")
    connections.close_all()
    out, err, value = (tempfile.TemporaryFile() for _ in range(3))  # noqa: SIM115
    with warnings.catch_warnings():
        # xdist's worker has a thread, which holds no lock that a child needs.
        warnings.filterwarnings("ignore", ".*use of fork.*", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _run_child(function, args, kwargs, out, err, value)
    what = getattr(function, "__qualname__", repr(function))
    return ForkedProcess(pid, what, os.pidfd_open(pid), (out, err, value))


def _run_child(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out: IO[bytes],
    err: IO[bytes],
    value: IO[bytes],
) -> NoReturn:
    code = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        code = _run_for_exit_code(function, args, kwargs, value)
        connections.close_all()
        sys.stdout.flush()
        sys.stderr.flush()
        value.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run_for_exit_code(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], value: IO[bytes]
) -> int:
    """Run the function as the interpreter runs a program."""
    try:
        result = function(*args, **kwargs)
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
            return 1
        return int(exit_.code or 0) & 0xFF
    except BaseException:
        traceback.print_exc()
        return 1
    with contextlib.suppress(pickle.PicklingError, TypeError, AttributeError):
        value.write(pickle.dumps(result))
    return 0


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


class ProcessMarker:
    """A mark that every process started under it carries, even a daemon.

    A fork has the same file mapped; a program that was executed has the variable in its
    environment. Neither a session of its own, nor another parent, nor closed file descriptors
    take the mark away.
    """

    VARIABLE = "CHRONIKER_TEST_ID"

    def __init__(self) -> None:
        self.id = uuid.uuid4().hex
        path = SCRATCH / f"mark-{self.id}"
        with path.open("w+b") as file:
            file.write(b"\0")
            file.flush()
            self._map = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
        path.unlink()
        self._before = set(psutil.pids())
        self._environ_before = os.environ.get(self.VARIABLE)
        os.environ[self.VARIABLE] = self.id

    def close(self) -> None:
        self._map.close()
        if self._environ_before is None:
            os.environ.pop(self.VARIABLE, None)
        else:
            os.environ[self.VARIABLE] = self._environ_before

    def marked_processes(self) -> list[psutil.Process]:
        """The living processes with the mark; zombies do not count."""
        mine = os.getpid()
        found = []
        for pid in psutil.pids():
            if pid == mine or pid in self._before:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE and self._is_marked(process):
                    found.append(process)
        return found

    def _is_marked(self, process: psutil.Process) -> bool:
        proc = Path("/proc", str(process.pid))
        needle = self.id.encode()
        return needle in (proc / "environ").read_bytes() or needle in (proc / "maps").read_bytes()


def assert_no_leftovers(mark: ProcessMarker, grace: float) -> None:
    """Fail if a marked process is alive after ``grace`` seconds; kill all of them then."""
    deadline = time.monotonic() + grace
    while left := mark.marked_processes():
        if time.monotonic() >= deadline:
            descriptions = [_describe(process) for process in left]
            _kill_all(mark)
            pytest.fail("processes outlived the test and were killed:\n" + "\n".join(descriptions))
        time.sleep(0.02)


def _kill_all(mark: ProcessMarker) -> None:
    """Kill all, including those that are forked during the search."""
    deadline = time.monotonic() + 10
    while (left := mark.marked_processes()) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def _describe(process: psutil.Process) -> str:
    try:
        with process.oneshot():
            return (
                f"  pid {process.pid} of {process.ppid()}, {process.status()}: "
                f"{' '.join(process.cmdline())[:300]}"
            )
    except psutil.Error:
        return f"  pid {process.pid}: has ended"


# --- the machine ----------------------------------------------------------------------------


# --- factories ------------------------------------------------------------------------------


@contextlib.contextmanager
def run_server(command: list[str], log: Path, **options: Any) -> Iterator[None]:
    """A server that ends with the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=log.parent, **options)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def tree_of(tick_pid: int) -> dict[str, psutil.Process]:
    """The processes of a tick that runs one job."""
    (forkserver,) = psutil.Process(tick_pid).children()
    (warden,) = forkserver.children()
    (job,) = warden.children()
    return {
        "tick": psutil.Process(tick_pid),
        "forkserver": forkserver,
        "warden": warden,
        "job": job,
    }
