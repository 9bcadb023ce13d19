"""The process that all runs are forked from: a copy of the scheduler that does nothing else.

The scheduler forks it once, and goes on with its database connection. Forking from the scheduler
itself would mean a new connection each time, and a page fault for each page that it then touches.
The zygote has no database, sleeps on a socket, and forks a warden for each request; the file
descriptors of the run's pipes come through the socket (unix(7), SCM_RIGHTS), and a pidfd of the
warden goes back. When the scheduler dies the socket ends, and so does the zygote.
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
from typing import Any

from chroniker import progress

from . import child, warden

_HEADER = struct.Struct("=q")
_PIPE_NAMES = tuple(field.name for field in fields(warden.Pipes))


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A run to be started, as it goes through the socket."""

    spec: child.CommandSpec
    raw: tuple[str, ...]
    spawn: bool
    limits: warden.RunLimits

    def dump(self) -> bytes:
        """As bytes."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def load(cls, data: bytes) -> StartRequest:
        """What :meth:`dump` wrote."""
        values = json.loads(data)
        spec = values["spec"]
        return cls(
            spec=child.CommandSpec(**{**spec, "args": tuple(spec["args"])}),
            raw=tuple(values["raw"]),
            spawn=values["spawn"],
            limits=warden.RunLimits(**values["limits"]),
        )


class ForkServer:
    """The scheduler's end.

    ``not_theirs``: descriptors that the forked process must not keep; ``file_limit``: its
    RLIMIT_NOFILE, soft and hard, and that of the jobs.
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
        """Ask for a run; its answer is read by :meth:`answer`, in the same order.

        ``lock`` is the descriptor of a lock that the run is to hold. Raises OSError where the
        zygote is dead.
        """
        data = start_request.dump()
        descriptors = [getattr(pipes, name) for name in _PIPE_NAMES]
        if lock is not None:
            descriptors.append(lock)
        socket.send_fds(self._socket, [_HEADER.pack(len(data))], descriptors)
        self._socket.sendall(data)

    def read_reply(self) -> tuple[int, int]:
        """Pid and pidfd of the warden that was asked for. Raises OSError where there is none."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, _HEADER.size, 1)
        if len(data) < _HEADER.size:
            raise ConnectionError(errno.EPIPE, "the process that starts the jobs has died")
        (pid,) = _HEADER.unpack(data)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        if not descriptors:  # this process may open no more files, and got none
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pid, descriptors[0]

    def has_reply(self, timeout: float) -> bool:
        """Whether :meth:`answer` has something to read within ``timeout`` seconds."""
        return bool(select.select([self._socket], [], [], timeout)[0])

    def fileno(self) -> int:
        """Readable when there is an answer."""
        return self._socket.fileno()

    def close(self) -> None:
        """End it and wait for its end."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def __del__(self) -> None:
        self._socket.close()


def _run_server(connection: socket.socket) -> None:
    """Be the zygote, to the end of this process."""
    try:
        os.setsid()  # a Ctrl-C at the scheduler's terminal is the scheduler's to obey
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        gc.disable()
        gc.freeze()
        warden.become_subreaper()  # what a killed warden leaves behind falls to this process
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
            # After the first start, which need not wait for it; later wardens have it for nothing.
            import psutil  # noqa: F401
    except OSError:
        pass  # the scheduler is gone
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
            raise ConnectionError("the scheduler died while it asked for a run")
        data += part
    return bytes(data)


def _fork_warden(
    connection: socket.socket, start_request: StartRequest, descriptors: list[int]
) -> int:
    """The warden's pid, or the negative errno of the fork that failed."""
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
    """In the job's process: run the command here, or become another program."""
    environ: Any = os.environ
    environ[progress.FD_VARIABLE] = str(pipes.progress)
    environ["CHRONIKER_RUN_ID"] = str(start_request.spec.run_id)
    environ["CHRONIKER_JOB_NAME"] = start_request.spec.job_name.replace("\0", "")
    os.set_inheritable(pipes.progress, True)
    if start_request.raw:
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python's ignoring them would be inherited
        os.execvp(start_request.raw[0], start_request.raw)
    if start_request.spawn:
        for fd in (pipes.status, pipes.log, pipes.page):
            os.set_inheritable(fd, True)
        environ[child.SPEC_VARIABLE] = start_request.spec.dump()
        environ[child.REPORT_VARIABLE] = str(pipes.status)
        environ[child.LOG_VARIABLE] = str(pipes.log)
        environ[progress.PAGE_VARIABLE] = str(pipes.page)
        environ[child.PATH_VARIABLE] = environ.get("PYTHONPATH", "")
        environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execv(sys.executable, [sys.executable, "-m", "chroniker.processes.child"])
    progress.attach(mmap.mmap(pipes.page, progress.PAGE_BYTES))
    return child.run_in_fork(start_request.spec, pipes.status, pipes.log)
