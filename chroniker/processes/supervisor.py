"""The running children of a tick: started, listened to, ended. It knows pipes, not tables."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from chroniker import progress
from chroniker.db.clock import boottime
from chroniker.enums import RunStatus
from chroniker.masking import Masker

from . import warden
from .forkserver import ForkServer, StartRequest
from .locks import FileLock
from .output import Recorder

_READ_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_WARDEN_EXIT_SECONDS = 10.0
"""How long after its last moment a warden may still be alive before it is killed itself."""
_MAX_PENDING_STARTS = 64
"""How many starts are asked for before an answer is waited for. The socket holds some hundreds of
answers; a zygote that waits for room in it reads no request, and both would wait for ever."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to be started."""

    key: int
    """What the caller knows it by."""
    start_request: StartRequest
    streams: tuple[str, ...]
    """Which streams are kept."""
    output_bytes: int
    stderr_is_failure: bool
    lock: FileLock | None = None
    """Held by the run, and by nobody else, until it is dead."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    status: RunStatus
    error: str = ""
    exit_code: int | None = None
    signal: int | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None


class Child:
    """A run that this process supervises."""

    def __init__(self, request: RunRequest, masker: Masker) -> None:
        self.request = request
        self.key = request.key
        self.recorder = Recorder(request.streams, request.output_bytes, masker)
        self.masker = masker
        self.written = {"stdout": 0, "stderr": 0, "log": 0}
        self.page: progress.ProgressPage | None = None
        self.warden_pid = 0
        self.warden_fd = -1
        self.job_pid: int | None = None
        self.control = -1
        self.start_error = ""
        self.sources: dict[int, str] = {}
        self.started = time.monotonic()
        self.ending: warden.ExitReport | None = None
        self.error = ""
        self.lease_lost = False
        self.stop_reason = ""
        self.kill_warden_at: float | None = None
        self.parts: tuple[int, int] | None = None
        """``(total, done)`` as last told."""
        self.parts_changed = False
        self._progress_stamp = 0
        self._lines = b""
        self._status = b""

    def handle_data(self, kind: str, data: bytes) -> None:
        """Take in what came through one of its pipes."""
        if kind == "status":
            self._status += data
            *lines, self._status = self._status.split(b"\n")
            for line in lines:
                self._handle_status(line)
        elif kind == "progress":
            *lines, self._lines = (self._lines + data)[-4096:].split(b"\n")
            for line in reversed(lines):
                if progress_values := progress.parse_line(line):
                    self._set_parts(*progress_values)
                    break
        else:
            self.written[kind] += len(data)
            if kind in self.request.streams:
                self.recorder.feed(kind, data)

    def read_progress(self) -> None:
        """Read the page that the job writes."""
        progress_values = self.page.read() if self.page else None
        if progress_values and progress_values[0] != self._progress_stamp:
            self._progress_stamp = progress_values[0]
            self._set_parts(progress_values[1], progress_values[2])

    def _set_parts(self, total: int, done: int) -> None:
        if (total, done) != self.parts:
            self.parts = (total, done)
            self.parts_changed = True

    def _handle_status(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError):
            message = json.loads(line)
            if "pid" in message:
                self.job_pid = message["pid"]
            if "error" in message:
                self.error = str(message["error"])
            if "ending" in message:
                self.ending = warden.ExitReport(**message["ending"])

    def send_command(self, line: bytes) -> None:
        """Write to the warden; one that is dead or frozen does not listen."""
        with contextlib.suppress(OSError):
            os.write(self.control, line)

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        ending = self.ending
        if self.start_error and self.job_pid is None:
            return Outcome(RunStatus.FAILED, self.start_error)
        if ending is None or ending.why == "orphan":
            error = self.error or "The run's guard process died; nobody knows how far the job came."
            return Outcome(RunStatus.LOST, error)
        status, error = self._decide_status(ending)
        return Outcome(
            status,
            self.masker.mask_text(error),
            ending.code,
            ending.signal,
            ending.seconds,
            ending.cpu_seconds,
            ending.max_rss_bytes,
        )

    def _decide_status(self, ending: warden.ExitReport) -> tuple[RunStatus, str]:
        if self.lease_lost or ending.why == "lease":
            return RunStatus.LOST, "Ended, because its lease could not be renewed in time."
        if ending.why == "timeout":
            limit = self.request.start_request.limits.timeout_seconds
            return RunStatus.TIMED_OUT, f"Ended, because it ran longer than {limit:g} s."
        if ending.why:
            return (
                RunStatus.STOPPED,
                self.stop_reason or "Stopped by a signal to its guard process.",
            )
        if ending.signal is not None:
            name = f" {signal.Signals(ending.signal).name}" if ending.signal < 32 else ""
            hint = " (out of memory, perhaps)" if ending.signal == signal.SIGKILL else ""
            return RunStatus.FAILED, f"Killed by signal {ending.signal}{name}{hint}."
        if ending.code:
            return RunStatus.FAILED, self.error or f"Ended with exit code {ending.code}."
        if self.request.stderr_is_failure and self.written["stderr"]:
            return RunStatus.FAILED, "It wrote to stderr, which counts as failure for this job."
        return RunStatus.SUCCEEDED, ""


class Supervisor:
    """Starts runs and listens to them, all in one thread.

    ``before_fork`` is called before a process is forked: whatever must not be shared with it
    (database connections) has to be closed there.
    """

    def __init__(self, before_fork: Callable[[], None], masker: Masker) -> None:
        self._before_fork = before_fork
        self._masker = masker
        self._selector = selectors.EpollSelector()
        self._forkserver: ForkServer | None = None
        # Each run is eight descriptors here; the jobs keep the limit that they would have had.
        self._file_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        hard = self._file_limit[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._pending_starts: deque[Child] = deque()
        """Those whose start the zygote has not yet told of, in the order of asking."""
        self._failed_starts: list[Child] = []
        self.children: dict[int, Child] = {}

    def start(self, requests: Iterable[RunRequest]) -> list[Child]:
        """Start the runs; what could not be started comes back as ended from :meth:`poll`."""
        runs = [Child(request, self._masker) for request in requests]
        for run in runs:
            self.children[run.key] = run
            while len(self._pending_starts) >= _MAX_PENDING_STARTS:
                self._read_forkserver_reply()
            try:
                try:
                    self._request_start(run)
                except ConnectionError:  # the zygote was killed: make another
                    self._close_forkserver()
                    self._request_start(run)
            except OSError as error:
                self._mark_not_started(run, error)
            else:
                self._pending_starts.append(run)
        return runs

    def _request_start(self, run: Child) -> None:
        """Make the pipes of a run and hand their far ends to the zygote."""
        request = run.request
        zygote = self._ensure_forkserver()  # first: it must not inherit the ends of these pipes
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        try:
            run.page = run.page or progress.ProgressPage()
            for kind in ("stdout", "stderr", "log", "progress", "status"):
                ours[kind], theirs[kind] = os.pipe2(os.O_CLOEXEC)
            theirs["control"], run.control = os.pipe2(os.O_CLOEXEC)
            pipes = warden.Pipes(page=run.page.fd, **theirs)
            lock = request.lock.fd if request.lock else None
            zygote.request(request.start_request, pipes, lock)
        except OSError:
            for fd in (*ours.values(), run.control):
                if fd >= 0:
                    os.close(fd)
            run.control = -1
            raise
        finally:
            for fd in theirs.values():
                os.close(fd)
        if request.lock:
            request.lock.close()
        os.set_blocking(run.control, False)
        for kind, fd in ours.items():
            os.set_blocking(fd, False)
            run.sources[fd] = kind
            self._selector.register(fd, selectors.EVENT_READ, (run, kind))
        limits = request.start_request.limits
        if limits.timeout_seconds:
            run.kill_warden_at = (
                run.started + limits.timeout_seconds + limits.grace_seconds + _WARDEN_EXIT_SECONDS
            )

    def _ensure_forkserver(self) -> ForkServer:
        if self._forkserver is None:
            self._before_fork()
            self._forkserver = ForkServer(self._descriptors(), self._file_limit)
            self._selector.register(
                self._forkserver.fileno(), selectors.EVENT_READ, (None, "zygote")
            )
        return self._forkserver

    def _descriptors(self) -> list[int]:
        """All that belongs to this process alone.

        A control pipe that another process held open would hide from a warden that its supervisor
        is dead.
        """
        mine = [self._selector.fileno()]
        for run in self.children.values():
            mine += [*run.sources, run.control, run.warden_fd]
            mine += [run.page.fd] if run.page else []
        return [fd for fd in mine if fd >= 0]

    def descriptors(self) -> list[int]:
        """All that no fork but the zygote may keep; the zygote itself lives on its socket's end."""
        return self._descriptors() + ([self._forkserver.fileno()] if self._forkserver else [])

    def _close_forkserver(self) -> None:
        if self._forkserver is not None:
            self._selector.unregister(self._forkserver.fileno())
            self._forkserver.close()
            self._forkserver = None
        while self._pending_starts:
            self._mark_start_unknown(self._pending_starts.popleft())

    def _mark_start_unknown(self, run: Child) -> None:
        """The zygote died before it told whether it had started the run.

        If it had, the warden ends it, now that the control pipe has ended. When nobody holds the
        status pipe any more, nothing of the run is alive.
        """
        run.start_error = "No process could be started: the process that starts the jobs died."
        os.close(run.control)
        run.control = -1
        if "status" not in run.sources.values():  # it has ended already, in the same breath
            self._failed_starts.append(run)

    def _read_forkserver_reply(self) -> None:
        """One answer of the zygote: the next run that was asked for has a warden, or has none."""
        assert self._forkserver is not None
        try:
            pid, pidfd = self._forkserver.read_reply()
        except ConnectionError:
            self._close_forkserver()
        except OSError as error:
            self._mark_not_started(self._pending_starts.popleft(), error)
        else:
            run = self._pending_starts.popleft()
            run.warden_pid, run.warden_fd = pid, pidfd
            self._selector.register(pidfd, selectors.EVENT_READ, (run, ""))

    def _mark_not_started(self, run: Child, error: OSError) -> None:
        run.start_error = f"No process could be started: {error.strerror or error}"
        if run.request.lock:
            run.request.lock.close()
        self._failed_starts.append(run)

    def stop(self, run: Child, why: str) -> None:
        """Ask the run to end: SIGTERM, its grace time, SIGKILL."""
        if not run.stop_reason:
            run.stop_reason = why
            run.send_command(b"T\n")
            grace = run.request.start_request.limits.grace_seconds + _WARDEN_EXIT_SECONDS
            run.kill_warden_at = min(run.kill_warden_at or float("inf"), time.monotonic() + grace)

    def abandon(self, run: Child) -> None:
        """The run is somebody else's now: end it at once, whatever it does."""
        run.lease_lost = True
        run.send_command(f"L {boottime() - 1}\n".encode())
        run.kill_warden_at = time.monotonic() + 1.0

    def extend(self, run: Child, deadline: float) -> None:
        """Tell the warden that the lease now runs until ``deadline`` (CLOCK_BOOTTIME)."""
        run.send_command(f"L {deadline}\n".encode())

    def poll(self, timeout: float) -> list[Child]:
        """Listen for up to ``timeout`` seconds; the runs that have ended since."""
        ended, self._failed_starts = self._failed_starts, []
        for key, _ in self._selector.select(0.0 if ended else max(0.0, timeout)):
            run, kind = key.data
            if run is None:
                self._read_forkserver_reply()
            elif kind:
                self._read(run, key.fd, kind)
            else:
                ended.append(run)
        now = time.monotonic()
        for run in self.children.values():
            if run.kill_warden_at is not None and now > run.kill_warden_at and run.warden_fd >= 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(run.warden_fd, signal.SIGKILL)
        for run in ended:
            self._close_run(run)
        return ended

    def _read(self, run: Child, fd: int, kind: str) -> bool:
        """Read once; whether there may be more."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close_source(run, fd)
            if kind == "status" and run.start_error and run.control < 0:
                self._failed_starts.append(run)
            return False
        if len(data) == 65536 and kind in ("stdout", "stderr"):
            # A flood: a larger pipe means fewer turns. Beyond the user's share it stays small.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        run.handle_data(kind, data)
        return True

    def _close_source(self, run: Child, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        del run.sources[fd]

    def _close_run(self, run: Child) -> None:
        """The warden has ended: read what is left in the pipes, and leave nothing behind."""
        if run.warden_fd >= 0:
            self._selector.unregister(run.warden_fd)
            os.close(run.warden_fd)
        for fd, kind in [item for item in run.sources.items() if item[1] == "status"]:
            while self._read(run, fd, kind):
                pass
        if run.ending is None and run.warden_pid:
            self._end_orphans(run)
        for fd, kind in list(run.sources.items()):
            # The tree is dead, so there is no more than what the pipe holds; but do not trust it.
            for _ in range(8):
                if not self._read(run, fd, kind):
                    break
            if fd in run.sources:
                self._close_source(run, fd)
        run.read_progress()
        if run.control >= 0:
            os.close(run.control)
        if run.page:
            run.page.close()
        del self.children[run.key]

    def _end_orphans(self, run: Child) -> None:
        """Its warden was killed: what it guarded has fallen to the zygote; end it.

        The job itself dies with its warden. What it has started is known by its session or, where
        it made one of its own, by being below the zygote but below none of the wardens.
        """
        while self._pending_starts and self._forkserver and self._forkserver.has_reply(1.0):
            self._read_forkserver_reply()  # or wardens that we do not know yet would be taken for orphans
        wardens = {other.warden_pid for other in self.children.values() if other is not run}
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            found = [
                pid
                for pid in warden.descendants(
                    self._forkserver.pid if self._forkserver else os.getpid()
                )
                if _session_id(pid) == run.warden_pid or _is_unguarded(pid, wardens)
            ]
            if not found:
                return
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def close(self) -> None:
        """End the zygote and give the selector back."""
        self._close_forkserver()
        self._selector.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._file_limit)


def _session_id(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _is_unguarded(pid: int, wardens: set[int]) -> bool:
    """Whether ``pid`` is neither one of the wardens nor below one."""
    import psutil

    try:
        return pid not in wardens and not wardens & {
            parent.pid for parent in psutil.Process(pid).parents()
        }
    except psutil.Error:
        return False
