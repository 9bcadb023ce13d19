"""The fork server: the process that runs are forked from, a copy of the scheduler that only forks.

The scheduler forks it once and keeps its database connection. Forking runs from the scheduler
itself would cost a new connection each time, and a page fault for each page that it then touches.
The fork server has no database connection, waits on a socket, and forks a warden for each request.
The descriptors of the run's pipes come through the socket (unix(7), SCM_RIGHTS), and a pidfd of
the warden goes back. When the scheduler dies, the socket is closed and the fork server ends.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from chroniker import progress, prometheus_files, run_context, startup

from . import child, warden
from .batch_spec import BatchPage, BatchSpec

_HEADER = struct.Struct("=q")
_PIPE_NAMES = tuple(field.name for field in fields(warden.Pipes))


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A run to start, as it is sent through the socket."""

    spec: child.CommandSpec
    raw: tuple[str, ...]
    """Program and arguments of a raw command; empty for a management command."""
    spawn: bool
    """Whether the command runs in a fresh Python interpreter."""
    limits: warden.RunLimits
    batch: BatchSpec | None = None
    """Runs that one process executes together, instead of the command."""

    def dump(self) -> bytes:
        """Serialize it; :meth:`load` is the reverse."""
        values = {
            "spec": asdict(self.spec),
            "raw": self.raw,
            "spawn": self.spawn,
            "limits": asdict(self.limits),
            "batch": self.batch and self.batch.dump(),
        }
        return json.dumps(values).encode()

    @classmethod
    def load(cls, data: bytes) -> StartRequest:
        """Read what :meth:`dump` returned."""
        values = json.loads(data)
        spec = values["spec"]
        return cls(
            spec=child.CommandSpec(**{**spec, "args": tuple(spec["args"])}),
            raw=tuple(values["raw"]),
            spawn=values["spawn"],
            limits=warden.RunLimits(**values["limits"]),
            batch=BatchSpec.load(values["batch"]) if values["batch"] else None,
        )


class ForkServer:
    """The scheduler's connection to the fork server, which it forks.

    ``fds_to_close`` are the descriptors that the fork server must not keep. ``file_limit`` is the
    RLIMIT_NOFILE, soft and hard, of the fork server and of the jobs.
    """

    def __init__(self, fds_to_close: Iterable[int], file_limit: tuple[int, int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            for fd in fds_to_close:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, file_limit)
            _run_server(theirs)
        theirs.close()
        self._socket = ours

    def request(self, start_request: StartRequest, pipes: warden.Pipes, lock: int | None) -> None:
        """Request the start of a run; :meth:`read_reply` reads the replies in the same order.

        ``lock`` is the descriptor of a lock for the run to hold. Raises OSError if the fork server
        is dead.
        """
        data = start_request.dump()
        descriptors = [getattr(pipes, name) for name in _PIPE_NAMES]
        if lock is not None:
            descriptors.append(lock)
        socket.send_fds(self._socket, [_HEADER.pack(len(data))], descriptors)
        self._socket.sendall(data)

    def read_reply(self) -> tuple[int, int]:
        """Return pid and pidfd of the warden. Raises OSError if it could not be forked.

        Raises ConnectionError if the fork server is dead.
        """
        data, descriptors, _, _ = socket.recv_fds(self._socket, _HEADER.size, 1)
        if len(data) < _HEADER.size:
            raise ConnectionError(errno.EPIPE, "the fork server has died")
        (pid,) = _HEADER.unpack(data)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        if not descriptors:  # this process may not open more files
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pid, descriptors[0]

    def has_reply(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a reply; return whether there is one."""
        return bool(select.select([self._socket], [], [], timeout)[0])

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there is a reply."""
        return self._socket.fileno()

    def close(self) -> None:
        """End the fork server and wait for it."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def __del__(self) -> None:
        self._socket.close()


def _run_server(connection: socket.socket) -> None:
    """Fork a warden for each request until the scheduler closes the socket; does not return."""
    try:
        os.setsid()  # Ctrl-C in the terminal is for the scheduler only
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        prometheus_files.leave()
        gc.disable()
        gc.freeze()
        warden.become_subreaper()  # becomes the parent of what a killed warden leaves behind
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while True:
            _reap_children()
            if not poll.poll(1000):
                continue
            size = len(_PIPE_NAMES) + 1
            data, descriptors, _, _ = socket.recv_fds(connection, _HEADER.size, size)
            if len(data) < _HEADER.size:
                break
            (length,) = _HEADER.unpack(data)
            start_request = StartRequest.load(_receive_exactly(connection, length))
            pid = _fork_warden(connection, start_request, descriptors)
            if pid < 0:
                connection.sendall(_HEADER.pack(pid))
            else:
                pidfd = os.pidfd_open(pid)
                socket.send_fds(connection, [_HEADER.pack(pid)], [pidfd])
                os.close(pidfd)
            for fd in descriptors:
                os.close(fd)
            # Imported after the first start, so that it does not wait. Later wardens inherit it.
            import psutil  # noqa: F401
    except OSError:
        pass  # the scheduler is dead
    finally:
        os._exit(0)


def _reap_children() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _receive_exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the scheduler died while it sent a request")
        data += part
    return bytes(data)


def _fork_warden(
    connection: socket.socket, start_request: StartRequest, descriptors: list[int]
) -> int:
    """Return the pid of the warden, or the negative errno if the fork failed."""
    try:
        pid = os.fork()
    except OSError as error:
        return -(error.errno or errno.EAGAIN)
    if pid == 0:
        try:
            connection.close()
            pipes = warden.Pipes(**dict(zip(_PIPE_NAMES, descriptors, strict=False)))
            warden.run_warden(start_request.limits, pipes, lambda: _exec_job(start_request, pipes))
        finally:
            os._exit(1)
    return pid


def _exec_job(start_request: StartRequest, pipes: warden.Pipes) -> int:
    """In the job's process: run the command here, or execute another program."""
    if start_request.batch is not None:
        from .batch_guard import run_guard

        page = BatchPage(mmap.mmap(pipes.page, progress.PAGE_BYTES))
        return run_guard(start_request.batch, page, pipes.progress)
    environ = os.environ
    environ[progress.FD_VARIABLE] = str(pipes.progress)
    run_context.attach(start_request.spec.current_run())
    os.set_inheritable(pipes.progress, True)
    if start_request.raw:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them, which would be inherited
        os.execvp(start_request.raw[0], start_request.raw)
    if start_request.spawn:
        for fd in (pipes.status, pipes.log, pipes.page):
            os.set_inheritable(fd, True)
        environ[child.SPEC_VARIABLE] = start_request.spec.dump()
        environ[child.REPORT_VARIABLE] = str(pipes.status)
        environ[child.LOG_VARIABLE] = str(pipes.log)
        environ[progress.PAGE_VARIABLE] = str(pipes.page)
        environ[child.MANAGE_VARIABLE] = startup.find_manage_py()
        environ[child.PATH_VARIABLE] = environ.get("PYTHONPATH", "")
        environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execv(sys.executable, [sys.executable, "-m", "chroniker.processes.child"])
    progress.attach(mmap.mmap(pipes.page, progress.PAGE_BYTES))
    return child.run_in_fork(start_request.spec, pipes.status, pipes.log)
