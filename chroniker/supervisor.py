"""The running children of a tick: started, listened to, ended. It knows pipes, not tables."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import child, progress, warden
from .enums import RunStatus
from .locks import FileLock
from .output import Masker, Recorder, Taken

_READ_BYTES = 1024 * 1024
_PIPE_BYTES = 1024 * 1024
_PATIENCE_SECONDS = 10.0
"""How long after its last moment a warden may still be alive before it is killed itself."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to be started."""

    key: int
    """What the caller knows it by."""
    spec: child.CommandSpec
    raw: tuple[str, ...]
    """A program and its arguments; empty: run the management command of ``spec``."""
    spawn: bool
    guard: warden.Guard
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
        self.page = progress.ProgressPage()
        self.warden_pid = 0
        self.warden_fd = -1
        self.job_pid: int | None = None
        self.control = -1
        self.sources: dict[int, str] = {}
        self.started = time.monotonic()
        self.ending: warden.Ending | None = None
        self.error = ""
        self.lease_lost = False
        self.why_ended = ""
        self.give_up_at: float | None = None
        self.ended_at: float | None = None
        self.parts: tuple[int, int] | None = None
        """``(total, done)`` as last told."""
        self.parts_changed = False
        self._ticket = 0
        self._lines = b""
        self._status = b""

    def descriptors(self) -> list[int]:
        """Everything of this run that the supervisor has open."""
        return [*self.sources, self.control, self.warden_fd, self.page.fd]

    def hear(self, kind: str, data: bytes) -> None:
        """Take in what came through one of its pipes."""
        if kind == "status":
            self._status += data
            *lines, self._status = self._status.split(b"\n")
            for line in lines:
                self._learn(line)
        elif kind == "progress":
            *lines, self._lines = (self._lines + data)[-4096:].split(b"\n")
            for line in reversed(lines):
                if told := progress.parse_line(line):
                    self._set_parts(*told)
                    break
        else:
            self.written[kind] += len(data)
            if kind in self.request.streams:
                self.recorder.feed(kind, data)

    def look_at_progress(self) -> None:
        """Read the page that the job writes."""
        told = self.page.read()
        if told and told[0] != self._ticket:
            self._ticket = told[0]
            self._set_parts(told[1], told[2])

    def _set_parts(self, total: int, done: int) -> None:
        if (total, done) != self.parts:
            self.parts = (total, done)
            self.parts_changed = True

    def _learn(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError):
            message = json.loads(line)
            if "pid" in message:
                self.job_pid = message["pid"]
            if "error" in message:
                self.error = str(message["error"])
            if "ending" in message:
                self.ending = warden.Ending(**message["ending"])

    def tell(self, line: bytes) -> None:
        """Write to the warden; one that is dead or frozen does not listen."""
        with contextlib.suppress(OSError):
            os.write(self.control, line)

    def outcome(self) -> Outcome:
        """How it ended, once it has."""
        ending = self.ending
        if ending is None:
            error = self.error or "The run's guard process died; nobody knows how far the job came."
            return Outcome(RunStatus.LOST, error)
        status, error = self._verdict(ending)
        return Outcome(
            status,
            self.masker.mask_text(error),
            ending.code,
            ending.signal,
            ending.seconds,
            ending.cpu_seconds,
            ending.max_rss_bytes,
        )

    def _verdict(self, ending: warden.Ending) -> tuple[RunStatus, str]:
        if self.lease_lost or ending.why == "lease":
            return RunStatus.LOST, "Ended, because its lease could not be renewed in time."
        if ending.why == "timeout":
            limit = self.request.guard.timeout_seconds
            return RunStatus.TIMED_OUT, f"Ended, because it ran longer than {limit:g} s."
        if ending.why:
            return RunStatus.STOPPED, self.why_ended or "Stopped by a signal to its guard process."
        if ending.signal is not None:
            name = signal.Signals(ending.signal).name if ending.signal < 32 else ""
            hint = " (out of memory, perhaps)" if ending.signal == signal.SIGKILL else ""
            return RunStatus.FAILED, f"Killed by signal {ending.signal} {name}{hint}."
        if ending.code:
            return RunStatus.FAILED, self.error or f"Ended with exit code {ending.code}."
        if self.request.stderr_is_failure and self.written["stderr"]:
            return RunStatus.FAILED, "It wrote to stderr, which counts as failure for this job."
        return RunStatus.SUCCEEDED, ""


class Supervisor:
    """Starts runs and listens to them, all in one thread.

    ``before_fork`` is called before processes are forked: whatever must not be shared with them
    (database connections) has to be closed there.
    """

    def __init__(self, before_fork: Callable[[], None], masker: Masker) -> None:
        self._before_fork = before_fork
        self._masker = masker
        self._selector = selectors.DefaultSelector()
        self._frozen = False
        self.children: dict[int, Child] = {}

    def start(self, requests: Iterable[RunRequest]) -> list[Child]:
        """Start the runs; what could not be forked comes back as ended by :meth:`poll`."""
        import psutil  # noqa: F401 - the wardens need it, and forked ones have it for nothing

        self._before_fork()
        if not self._frozen:
            # What is there now is never collected, so that collecting in a child copies no page.
            gc.collect()
            gc.freeze()
            warden.become_subreaper()
            self._frozen = True
        return [self._fork(request) for request in requests]

    def _fork(self, request: RunRequest) -> Child:
        run = Child(request, self._masker)
        self.children[run.key] = run
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        for kind in ("stdout", "stderr", "log", "progress", "status"):
            ours[kind], theirs[kind] = os.pipe2(os.O_CLOEXEC)
        theirs["control"], run.control = os.pipe2(os.O_CLOEXEC)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_the_warden(run, list(ours.values()), theirs)
        for fd in theirs.values():
            os.close(fd)
        if request.lock:
            request.lock.close()
        os.set_blocking(run.control, False)
        run.warden_pid = pid
        run.warden_fd = os.pidfd_open(pid)
        self._selector.register(run.warden_fd, selectors.EVENT_READ, (run, ""))
        for kind, fd in ours.items():
            os.set_blocking(fd, False)
            run.sources[fd] = kind
            self._selector.register(fd, selectors.EVENT_READ, (run, kind))
        if request.guard.timeout_seconds:
            run.give_up_at = (
                run.started
                + request.guard.timeout_seconds
                + request.guard.grace_seconds
                + _PATIENCE_SECONDS
            )
        return run

    def _be_the_warden(self, run: Child, ours: list[int], theirs: dict[str, int]) -> None:
        """The forked process: drop what belongs to the supervisor; never returns."""
        try:
            signal.set_wakeup_fd(-1)
            # Another run's control pipe, held open here, would keep its end of file from coming.
            self._selector.close()
            for other in self.children.values():
                if other is not run:
                    for fd in other.descriptors():
                        with contextlib.suppress(OSError):
                            os.close(fd)
            for fd in (*ours, run.control):
                os.close(fd)
            pipes = warden.Pipes(
                control=theirs["control"],
                status=theirs["status"],
                stdout=theirs["stdout"],
                stderr=theirs["stderr"],
                log=theirs["log"],
                progress=theirs["progress"],
                page=run.page.fd,
            )
            warden.guard_run(run.request.guard, pipes, lambda: _do_the_job(run, pipes))
        finally:
            os._exit(1)

    def stop(self, run: Child, why: str) -> None:
        """Ask the run to end: SIGTERM, its grace time, SIGKILL."""
        if not run.why_ended:
            run.why_ended = why
            run.tell(b"T\n")
            patience = run.request.guard.grace_seconds + _PATIENCE_SECONDS
            run.give_up_at = min(run.give_up_at or float("inf"), time.monotonic() + patience)

    def abandon(self, run: Child) -> None:
        """The run is somebody else's now: end it at once, whatever it does."""
        run.lease_lost = True
        run.tell(f"L {warden.boottime() - 1}\n".encode())
        run.give_up_at = time.monotonic() + 1.0

    def extend(self, run: Child, deadline: float) -> None:
        """Tell the warden that the lease now runs until ``deadline`` (CLOCK_BOOTTIME)."""
        run.tell(f"L {deadline}\n".encode())

    def poll(self, timeout: float) -> list[Child]:
        """Listen for up to ``timeout`` seconds; the runs that have ended since."""
        ended: list[Child] = []
        for key, _ in self._selector.select(max(0.0, timeout)):
            run, kind = key.data
            if kind:
                self._read(run, key.fd, kind)
            else:
                ended.append(run)
        now = time.monotonic()
        for run in self.children.values():
            if run.give_up_at is not None and now > run.give_up_at and run not in ended:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(run.warden_fd, signal.SIGKILL)
        for run in ended:
            self._bury(run)
        return ended

    def _read(self, run: Child, fd: int, kind: str) -> bool:
        """Read once; whether there may be more."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._forget(run, fd)
            return False
        if len(data) == 65536 and kind in ("stdout", "stderr"):
            # A flood: a larger pipe means fewer turns. Beyond the user's share it stays small.
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        run.hear(kind, data)
        return True

    def _forget(self, run: Child, fd: int) -> None:
        self._selector.unregister(fd)
        os.close(fd)
        del run.sources[fd]

    def _bury(self, run: Child) -> None:
        """The warden has ended: read what is left in the pipes, and leave nothing behind."""
        os.waitpid(run.warden_pid, 0)
        self._selector.unregister(run.warden_fd)
        os.close(run.warden_fd)
        for fd, kind in [item for item in run.sources.items() if item[1] == "status"]:
            while self._read(run, fd, kind):
                pass
        if run.ending is None:
            self._end_orphans(run)
        for fd, kind in list(run.sources.items()):
            # The tree is dead, so there is no more than what the pipe holds; but do not trust it.
            for _ in range(8):
                if not self._read(run, fd, kind):
                    break
            if fd in run.sources:
                self._forget(run, fd)
        run.look_at_progress()
        os.close(run.control)
        run.page.close()
        run.ended_at = time.monotonic()
        del self.children[run.key]

    def _end_orphans(self, run: Child) -> None:
        """Its warden was killed: what it guarded has fallen to this process; end it.

        The job itself dies with its warden. What it has started is known by its session, or, where
        it made one of its own, by having become our child without being a warden.
        """
        deadline = time.monotonic() + 1.0
        wardens = {other.warden_pid for other in self.children.values()}
        while time.monotonic() < deadline:
            found = [
                pid
                for pid in warden.descendants(os.getpid())
                if _session(pid) == run.warden_pid or _stray(pid, wardens)
            ]
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._reap(wardens)
            if not found:
                return
            time.sleep(0.01)

    def _reap(self, wardens: set[int]) -> None:
        """Wait for the dead that fell to this process; wardens are waited for in their turn."""
        import psutil

        for process in psutil.Process().children():
            if process.pid not in wardens:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)

    def take_output(self, run: Child, *, final: bool = False) -> Taken:
        """What is to be stored of the run's output now."""
        return run.recorder.take(final=final)

    def close(self) -> None:
        """Give the selector back."""
        self._selector.close()


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _stray(pid: int, wardens: set[int]) -> bool:
    """Whether ``pid`` is below this process but below none of the wardens, in another session."""
    import psutil

    own = os.getpid()
    if _session(pid) == _session(own):
        return False  # what the tick itself has started, such as a receiver's helper
    try:
        parents = {parent.pid for parent in psutil.Process(pid).parents()}
    except psutil.Error:
        return False
    return pid not in wardens and own in parents and not parents & wardens


def _do_the_job(run: Child, pipes: warden.Pipes) -> int:
    """In the job's process: run the command here, or become another program."""
    request = run.request
    os.environ[progress.FD_VARIABLE] = str(pipes.progress)
    os.environ["CHRONIKER_RUN_ID"] = str(request.spec.run_id)
    os.environ["CHRONIKER_JOB_NAME"] = request.spec.job_name.replace("\0", "")
    os.set_inheritable(pipes.progress, True)
    if request.raw:
        os.execvp(request.raw[0], request.raw)
    if request.spawn:
        for fd in (pipes.status, pipes.log, pipes.page):
            os.set_inheritable(fd, True)
        os.environ[child.SPEC_VARIABLE] = request.spec.dump()
        os.environ[child.REPORT_VARIABLE] = str(pipes.status)
        os.environ[child.LOG_VARIABLE] = str(pipes.log)
        os.environ[progress.PAGE_VARIABLE] = str(pipes.page)
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        os.execv(sys.executable, [sys.executable, "-m", "chroniker.child"])
    progress.attach(run.page)
    return child.run_in_fork(request.spec, pipes.status, pipes.log)
