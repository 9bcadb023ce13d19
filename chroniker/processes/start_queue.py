"""The runs whose start was requested from the fork server, until it replies."""

from __future__ import annotations

import os
import resource
import selectors
from collections import deque
from collections.abc import Callable, Mapping

from .forkserver import ForkServer
from .running_child import RunningChild

_MAX_PENDING = 64
"""How many starts are requested before a reply is read. The socket holds some hundreds of replies;
a fork server that waits for room in it reads no request, and both sides would wait for ever."""


class StartQueue:
    """Requests starts from the fork server and reads its replies, which come in the same order.

    `before_fork` is called before the fork server is forked: it has to close whatever must not be
    shared with another process, such as database connections. `children` are all runs of the
    supervisor; the fork server must not keep their descriptors.
    """

    def __init__(
        self,
        selector: selectors.EpollSelector,
        children: Mapping[int, RunningChild],
        before_fork: Callable[[], None],
    ) -> None:
        self._selector = selector
        self._children = children
        self._before_fork = before_fork
        self._forkserver: ForkServer | None = None
        self._pending: deque[RunningChild] = deque()
        self.failed: list[RunningChild] = []
        """Runs that were not started and have not been reported yet."""
        # A run takes eight descriptors here; the jobs keep the limit that they would have had.
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = self._file_limit[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def add(self, run: RunningChild) -> None:
        """Request the start of a run; one that cannot be started is appended to `failed`."""
        while len(self._pending) >= _MAX_PENDING:
            self.read_reply()
        try:
            try:
                self._request(run)
            except ConnectionError:  # the fork server was killed: fork another one
                self._close_forkserver()
                self._request(run)
        except OSError as error:
            self._mark_failed(run, error)
        else:
            self._pending.append(run)

    def _request(self, run: RunningChild) -> None:
        """Create the pipes of a run and send their far ends to the fork server."""
        request = run.request
        forkserver = self._ensure_forkserver()  # first: it must not inherit these pipes
        theirs = run.pipes.open()
        try:
            lock = request.lock.fd if request.lock else None
            forkserver.request(request.start_request, theirs, lock)
        except OSError:
            run.pipes.discard()
            raise
        finally:
            theirs.close()
        if request.lock:
            request.lock.close()
        for fd, kind in run.pipes.sources.items():
            self._selector.register(fd, selectors.EVENT_READ, (run, kind))

    def _ensure_forkserver(self) -> ForkServer:
        if self._forkserver is None:
            self._before_fork()
            self._forkserver = ForkServer(self._private_descriptors(), self._file_limit)
            self._selector.register(self._forkserver.fileno(), selectors.EVENT_READ, (None, ""))
        return self._forkserver

    def _private_descriptors(self) -> list[int]:
        """Return the descriptors that belong to this process alone.

        If another process kept a control pipe open, a warden would not notice that its supervisor
        is dead.
        """
        private = [self._selector.fileno()]
        for run in self._children.values():
            private += run.pipes.descriptors()
            if run.warden.pidfd >= 0:
                private.append(run.warden.pidfd)
        return private

    def descriptors(self) -> list[int]:
        """Return what no forked process but the fork server may keep.

        The fork server keeps its end of the socket and ends when the other end is closed.
        """
        socket = [self._forkserver.fileno()] if self._forkserver else []
        return self._private_descriptors() + socket

    @property
    def parent_pid(self) -> int:
        """The process below which all runs are: the fork server, or this process without one."""
        return self._forkserver.pid if self._forkserver else os.getpid()

    def read_reply(self) -> None:
        """Read one reply of the fork server: the oldest pending run has a warden, or has none."""
        assert self._forkserver is not None
        try:
            pid, pidfd = self._forkserver.read_reply()
        except ConnectionError:
            self._close_forkserver()
        except OSError as error:
            self._mark_failed(self._pending.popleft(), error)
        else:
            run = self._pending.popleft()
            run.warden.pid, run.warden.pidfd = pid, pidfd
            self._selector.register(pidfd, selectors.EVENT_READ, (run, ""))

    def read_all_replies(self) -> None:
        """Wait for the replies to all pending requests, up to a second for each."""
        while self._pending and self._forkserver and self._forkserver.has_reply(1.0):
            self.read_reply()

    def _mark_failed(self, run: RunningChild, error: OSError) -> None:
        run.start_error = f"No process could be started: {error.strerror or error}"
        if run.request.lock:
            run.request.lock.close()
        self.failed.append(run)

    def _close_forkserver(self) -> None:
        if self._forkserver is not None:
            self._selector.unregister(self._forkserver.fileno())
            self._forkserver.close()
            self._forkserver = None
        while self._pending:
            self._mark_unknown(self._pending.popleft())

    def _mark_unknown(self, run: RunningChild) -> None:
        """The fork server died before it replied, so the run may have been started.

        In that case its warden ends it, because the control pipe is closed here. When no process
        holds the status pipe any more, no process of the run is alive.
        """
        run.start_error = "No process could be started: the fork server died."
        run.pipes.close_control()
        if "status" not in run.pipes.sources.values():  # its end was read just before
            self.failed.append(run)

    def close(self) -> None:
        """End the fork server and restore the limit of open files."""
        self._close_forkserver()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limit)
