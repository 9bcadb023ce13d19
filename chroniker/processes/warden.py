"""The guard of one run: a process between the supervisor and the job.

It starts the job, waits for it, and ends everything that the job has started: when the job has
ended, when the supervisor tells it to, dies, or is frozen past its lease, and when the job's time
is up. It is the leader of a session of its own and a child subreaper (prctl(2)), so that
grandchildren which daemonise fall to it and are found. It is forked from the scheduler and has no
database.

What the pipes carry:

- control (supervisor to warden): ``T`` end the run; ``L seconds`` the lease now runs until then
  (CLOCK_BOOTTIME). Its end of file means that the supervisor is dead.
- status (warden and job to supervisor): JSON lines: ``pid``; ``error`` (from the job); last of all
  how it ended (:class:`Ending`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chroniker.db.clock import boottime

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

ORPHAN_GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL when the supervisor has died: nothing is left after two seconds."""
LEFTOVER_GRACE_SECONDS = 2.0
"""The same for what a job that has ended left running."""
_POLL_SECONDS = 1.0
"""How long it sleeps at most while a lease may run out: a thawed host acts within that."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What the warden holds a run to."""

    timeout_seconds: float | None
    grace_seconds: float
    lease_deadline: float | None
    """CLOCK_BOOTTIME, seconds; None where the database has but one host."""
    memory_limit_bytes: int | None
    nice: int


@dataclass(frozen=True, slots=True)
class Pipes:
    """File descriptors that the warden's side of a run uses."""

    control: int
    status: int
    stdout: int
    stderr: int
    log: int
    progress: int
    page: int


@dataclass(frozen=True, slots=True)
class ExitReport:
    """How a run ended, as its warden saw it."""

    code: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    why: str
    """"" it ended by itself; "timeout", "stop", "orphan" or "lease": it was ended."""
    leftovers: int
    """Processes that were still there when the job itself had ended."""

    def line(self) -> bytes:
        """As a line of the status pipe."""
        return json.dumps({"ending": asdict(self)}).encode() + b"\n"


def become_subreaper() -> None:
    """Let orphaned descendants fall to this process instead of to init."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent's thread that forked this process ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def run_warden(limits: RunLimits, pipes: Pipes, job: Callable[[], int]) -> None:
    """Be the warden of a run, to the end of this process; ``job`` runs in the child.

    ``job`` returns an exit code or does not return at all.
    """
    try:
        _Warden(limits, pipes).run(job)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            text = f"The guard process failed: {type(error).__name__}: {error}"
            os.write(pipes.status, json.dumps({"error": text[:1000]}).encode() + b"\n")
    finally:
        os._exit(0)


class _Warden:
    def __init__(self, limits: RunLimits, pipes: Pipes) -> None:
        self.limits = limits
        self.pipes = pipes
        self.lease_deadline = limits.lease_deadline
        self.why = ""
        self.control_buffer = b""
        self.job_pid = 0
        self.orphaned = False
        self.kill_at: float | None = None
        """When the tree is killed, CLOCK_BOOTTIME; None where it has not been asked to end."""

    def run(self, job: Callable[[], int]) -> None:
        gc.disable()
        os.setsid()
        become_subreaper()
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        started = boottime()
        warden = os.getpid()
        try:
            self.job_pid = os.fork()
        except OSError as error:
            os.write(
                self.pipes.status,
                json.dumps({"error": f"No process could be started: {error}"}).encode() + b"\n",
            )
            return
        if self.job_pid == 0:
            self._run_job_process(warden, wake_read, wake_write, job)
        for fd in (self.pipes.stdout, self.pipes.stderr, self.pipes.log, self.pipes.progress,
                   self.pipes.page):  # fmt: skip
            os.close(fd)
        with contextlib.suppress(OSError):  # the supervisor is dead, as the control pipe will say
            os.write(self.pipes.status, json.dumps({"pid": self.job_pid}).encode() + b"\n")
        status, usage = self._wait(started, wake_read)
        seconds = boottime() - started
        leftovers = self._end_leftovers()
        code = os.waitstatus_to_exitcode(status)
        ending = ExitReport(
            code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            seconds=seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            max_rss_bytes=usage.ru_maxrss * 1024,
            why=self.why,
            leftovers=leftovers,
        )
        with contextlib.suppress(OSError):
            os.write(self.pipes.status, ending.line())

    def _run_job_process(
        self, warden: int, wake_read: int, wake_write: int, job: Callable[[], int]
    ) -> None:
        """The child: cut the ties to warden and supervisor, then do the work; never returns."""
        from .child import reset_signals

        code = 127
        try:
            die_with_parent(warden)
            os.setpgid(0, 0)
            reset_signals()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(self.pipes.stdout, 1)
            os.dup2(self.pipes.stderr, 2)
            for fd in (null, wake_read, wake_write, self.pipes.control, self.pipes.stdout,
                       self.pipes.stderr):  # fmt: skip
                if fd > 2:
                    os.close(fd)
            self._set_limits()
            code = job()
        except BaseException as error:
            with contextlib.suppress(BaseException):
                text = f"The job could not be started: {error}"
                os.write(self.pipes.status, json.dumps({"error": text[:1000]}).encode() + b"\n")
        finally:
            os._exit(code)

    def _set_limits(self) -> None:
        if self.limits.nice:
            os.nice(self.limits.nice)
        if self.limits.memory_limit_bytes:
            limit = self.limits.memory_limit_bytes
            # Private memory only (Linux 4.7): the address space also counts what is merely mapped.
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def _wait(self, started: float, wake_read: int) -> tuple[int, Any]:
        """Until the job has ended, by itself or because of us: its wait status and usage."""
        job_fd = os.pidfd_open(self.job_pid)
        poll = select.poll()
        poll.register(job_fd, select.POLLIN)
        poll.register(self.pipes.control, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        timeout = self.limits.timeout_seconds
        timeout_at = started + timeout if timeout else None
        while True:
            now = boottime()
            if self.lease_deadline is not None and now >= self.lease_deadline:
                self.why = self.why or "lease"
                self._kill_all()
                break
            if self.kill_at is not None and now >= self.kill_at:
                self._kill_all()
                break
            if self.kill_at is None and timeout_at is not None and now >= timeout_at:
                self._terminate("timeout", self.limits.grace_seconds)
                continue
            ready = {
                fd for fd, _ in poll.poll(self._seconds_until(now, self.kill_at, timeout_at) * 1000)
            }
            if job_fd in ready:
                break
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 100)
                self._terminate("stop", self.limits.grace_seconds)
            if self.pipes.control in ready:
                self._read_control()
                if self.orphaned:
                    poll.unregister(self.pipes.control)
        os.close(job_fd)
        _, status, usage = os.wait4(self.job_pid, 0)
        return status, usage

    def _seconds_until(self, now: float, *moments: float | None) -> float:
        """Seconds until something has to be done."""
        waits = [moment - now for moment in moments if moment is not None]
        if self.lease_deadline is not None:
            waits += [self.lease_deadline - now, _POLL_SECONDS]
        return max(0.0, min([*waits, 3600.0])) + 0.001  # poll(2) takes no more than 24 days

    def _read_control(self) -> None:
        """Read what the supervisor says and obey it."""
        data = os.read(self.pipes.control, 4096)
        if not data:
            self.orphaned = True
            self._terminate("orphan", ORPHAN_GRACE_SECONDS)
            return
        *lines, self.control_buffer = (self.control_buffer + data).split(b"\n")
        for line in lines:
            if line == b"T":
                self._terminate("stop", self.limits.grace_seconds)
            elif line.startswith(b"L "):
                self.lease_deadline = float(line[2:])

    def _terminate(self, why: str, grace: float) -> None:
        """Ask the whole tree to end, and to be killed after so many seconds if not before."""
        kill_at = boottime() + grace
        if self.kill_at is None or why == "orphan":
            self.why = self.why or why
            self._signal_tree(signal.SIGTERM)
            self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)

    def _kill_all(self) -> None:
        self._signal_tree(signal.SIGKILL)

    def _signal_tree(self, number: int) -> bool:
        """Send a signal to all that is left; whether anything could be sent one."""
        reached = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.job_pid, number)
            reached = True
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                reached = True
        return reached

    def _end_leftovers(self) -> int:
        """End what the job has left running; how many processes that were.

        Where the tree was asked to end, it has what is left of its grace time. What cannot be
        signalled, because it has become another user's, is left alone in the end.
        """
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        count = len(descendants(os.getpid()))
        if not self.why:
            self._signal_tree(signal.SIGTERM)
            grace = min(self.limits.grace_seconds, LEFTOVER_GRACE_SECONDS)
            self.kill_at = boottime() + grace
        pause = 0.005
        while True:
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return count
            if not self.orphaned and select.select([self.pipes.control], [], [], pause)[0]:
                self._read_control()
            elif self.orphaned:
                time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
            moments = [self.kill_at or 0.0, self.lease_deadline or float("inf")]
            if boottime() >= min(moments) and not self._signal_tree(signal.SIGKILL):
                os.waitpid(-1, os.WNOHANG)
                if descendants(os.getpid()):
                    return count


def descendants(pid: int) -> list[int]:
    """The processes below ``pid``, zombies left out, youngest generation last."""
    import psutil

    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    alive = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                alive.append(child.pid)
    return alive
