"""Start runs, read their pipes, and report how they ended, all in one thread."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable

from chroniker.masking import Masker

from .process_tree import descendants, is_outside, session_id, signal_processes
from .read_pace import ReadPace
from .running_child import RunningChild, RunRequest
from .start_queue import StartQueue

_READ_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_STREAMS = ("stdout", "stderr", "log")


class Supervisor:
    """The processes of all runs of a tick. It knows pipes and processes, not the database.

    `before_fork` is called before a process is forked: it has to close whatever must not be shared
    with another process, such as database connections.
    """

    def __init__(self, before_fork: Callable[[], None], masker: Masker) -> None:
        self._masker = masker
        self._selector = selectors.EpollSelector()
        self._pace = ReadPace(self._selector)
        self.children: dict[int, RunningChild] = {}
        self._starts = StartQueue(self._selector, self.children, before_fork)

    def start(self, requests: Iterable[RunRequest]) -> list[RunningChild]:
        """Start the runs; :meth:`poll` returns those that could not be started as ended."""
        runs = [RunningChild(request, self._masker) for request in requests]
        for run in runs:
            self.add(run)
        return runs

    def add(self, run: RunningChild) -> None:
        """Start one run."""
        self.children[run.key] = run
        self._starts.add(run)

    def descriptors(self) -> list[int]:
        """Return the descriptors that no other forked process may keep."""
        return self._starts.descriptors()

    def poll(self, timeout: float) -> list[RunningChild]:
        """Read pipes for up to `timeout` seconds; return the runs that have ended since."""
        ended, self._starts.failed = self._starts.failed, []
        wait = self._pace.limit(0.0 if ended else max(0.0, timeout), time.monotonic())
        events = self._selector.select(wait)
        now = time.monotonic()
        for key, _ in events:
            run, kind = key.data
            if run is None:
                self._starts.read_reply()
            elif kind:
                size = self._read(run, key.fd, kind)
                if size and kind in _STREAMS:
                    self._pace.note_read(key.fd, size, now)
            else:
                ended.append(run)
        for run in self.children.values():
            if now > run.warden.kill_at:
                run.warden.kill()
        for run in ended:
            self._close_run(run)
        return ended

    def _read(self, run: RunningChild, fd: int, kind: str) -> int:
        """Read once; return the number of bytes, 0 if there is nothing more for now."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        if not data:
            self._close_source(run, fd)
            if kind == "status" and run.start_error and run.pipes.control < 0:
                self._starts.failed.append(run)
            return 0
        if len(data) == 65536 and kind in _STREAMS:
            # The pipe was full: a larger one means fewer reads. The kernel refuses it beyond the
            # user's share (fs.pipe-user-pages-soft in proc(5)).
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        run.handle_data(kind, data)
        return len(data)

    def _close_source(self, run: RunningChild, fd: int) -> None:
        self._pace.forget(fd)
        os.close(fd)
        del run.pipes.sources[fd]

    def _close_run(self, run: RunningChild) -> None:
        """After the end of the warden: read the rest of the pipes and close everything."""
        if run.warden.pidfd >= 0:
            self._selector.unregister(run.warden.pidfd)
            os.close(run.warden.pidfd)
            run.warden.pidfd = -1
        for fd, kind in [item for item in run.pipes.sources.items() if item[1] == "status"]:
            while self._read(run, fd, kind):
                pass
        if run.status.ending is None and run.warden.pid:
            self._kill_orphans(run)
        for fd, kind in list(run.pipes.sources.items()):
            # The processes are dead, so there is no more than the pipe holds. The bound is for a
            # process that was not found.
            for _ in range(8):
                if not self._read(run, fd, kind):
                    break
            if fd in run.pipes.sources:
                self._close_source(run, fd)
        run.read_progress()
        run.pipes.close_control()
        run.pipes.close_page()
        del self.children[run.key]

    def _kill_orphans(self, run: RunningChild) -> None:
        """Kill what a killed warden has left: the fork server is now the parent of it.

        The job itself dies with its warden. What the job has started is recognized by its session
        or, if it created its own session, by being below the fork server but below no warden.
        """
        # Otherwise wardens that are not known yet would be mistaken for orphans.
        self._starts.read_all_replies()
        wardens = {other.warden.pid for other in self.children.values() if other is not run}
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            orphans = [
                pid
                for pid in descendants(self._starts.parent_pid)
                if session_id(pid) == run.warden.pid or is_outside(pid, wardens)
            ]
            if not orphans:
                return
            signal_processes(orphans, signal.SIGKILL)
            time.sleep(0.01)

    def close(self) -> None:
        """End the runs that are left and the fork server, and close the selector."""
        for run in self.children.values():
            run.pipes.discard()  # to a warden, the end of the control pipe is our death
            run.pipes.close_page()
            if run.warden.pidfd >= 0:
                os.close(run.warden.pidfd)
        self.children.clear()
        self._starts.close()
        self._selector.close()
