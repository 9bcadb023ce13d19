"""The warden: the guard process of one run, between the supervisor and the job.

It starts the job, waits for it, and ends everything that the job has started: when the job has
ended, when the supervisor requests it, dies, or is frozen past its lease, and when the job has
timed out. It leads its own session and is a child subreaper (prctl(2)), so that it becomes
the parent of grandchildren that daemonize, and finds them. It is forked from the fork server and
has no database connection.

What the pipes carry:

- control (supervisor to warden): ``T`` ends the run; ``L seconds`` sets the time at which the
  lease ends (CLOCK_BOOTTIME). End of file means that the supervisor is dead.
- status (warden and job to supervisor): JSON lines: ``pid``; ``error`` (from the job); the last
  line is ``ending`` (:class:`ExitReport`).
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
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Self

from chroniker.db.clock import boottime

from .process_tree import descendants, signal_processes

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)

ORPHAN_GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL after the supervisor died: nothing is left two seconds later."""
LEFTOVER_GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL for what a job left running when it ended."""
_POLL_SECONDS = 1.0
"""The longest sleep while a lease may expire: a host that was suspended acts within that time."""


class EndReason(StrEnum):
    """Why a run was ended."""

    NONE = ""
    """It ended by itself."""
    TIMED_OUT = "timeout"
    """It ran longer than its timeout."""
    STOPPED = "stop"
    """The supervisor, or a signal to the warden, requested it."""
    ORPHANED = "orphan"
    """Its supervisor died."""
    LEASE_EXPIRED = "lease"
    """Its lease was not renewed in time."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits that the warden enforces."""

    timeout_seconds: float | None
    grace_seconds: float
    lease_deadline: float | None
    """CLOCK_BOOTTIME, seconds; None if the database has only one host."""
    memory_limit_bytes: int | None
    nice: int


@dataclass(frozen=True, slots=True)
class Pipes:
    """The warden's ends of the pipes of a run, and the shared page of the progress."""

    control: int
    status: int
    stdout: int
    stderr: int
    log: int
    progress: int
    page: int

    def close(self) -> None:
        """Close the pipes in the supervisor. The page stays open: the supervisor reads it."""
        for field in fields(self):
            if field.name != "page":
                os.close(getattr(self, field.name))


@dataclass(frozen=True, slots=True)
class ExitReport:
    """How a run ended, as its warden reports it."""

    code: int | None
    signal: int | None
    seconds: float
    cpu_seconds: float
    max_rss_bytes: int
    reason: EndReason
    leftovers: int
    """Processes that were still alive when the job itself had ended."""

    def line(self) -> bytes:
        """Return it as a line for the status pipe."""
        return json.dumps({"ending": asdict(self)}).encode() + b"\n"

    @classmethod
    def load(cls, values: dict[str, object]) -> Self:
        """Read the value of ``ending``. Raises KeyError, TypeError or ValueError."""
        return cls(**{**values, "reason": EndReason(values["reason"])})  # type: ignore[arg-type]


def become_subreaper() -> None:
    """Make this process, and not init, the parent of orphaned descendants."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def run_warden(limits: RunLimits, pipes: Pipes, job: Callable[[], int]) -> None:
    """Act as the warden of a run until this process ends; does not return.

    ``job`` is called in the child process. It returns an exit code or does not return at all.
    """
    try:
        _Warden(limits, pipes).run(job)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            text = f"The warden process failed: {type(error).__name__}: {error}"
            os.write(pipes.status, json.dumps({"error": text[:1000]}).encode() + b"\n")
    finally:
        os._exit(0)


class _Warden:
    """The state of a warden."""

    def __init__(self, limits: RunLimits, pipes: Pipes) -> None:
        self.limits = limits
        self.pipes = pipes
        self.lease_deadline = limits.lease_deadline
        self.reason = EndReason.NONE
        self.control_buffer = b""
        self.job_pid = 0
        self.orphaned = False
        self.kill_at: float | None = None
        """When all processes are killed, CLOCK_BOOTTIME; None if they were not asked to end."""

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
        # Until the child has reset its handlers, this one would swallow a request to stop.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for fd in (self.pipes.stdout, self.pipes.stderr, self.pipes.log, self.pipes.progress,
                   self.pipes.page):  # fmt: skip
            os.close(fd)
        with contextlib.suppress(OSError):  # a dead supervisor: the control pipe reports it
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
            reason=self.reason,
            leftovers=leftovers,
        )
        with contextlib.suppress(OSError):
            os.write(self.pipes.status, ending.line())

    def _run_job_process(
        self, warden: int, wake_read: int, wake_write: int, job: Callable[[], int]
    ) -> None:
        """In the child: detach from warden and supervisor, then run the job; does not return."""
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

    def _wait(self, started: float, wake_read: int) -> tuple[int, resource.struct_rusage]:
        """Wait for the end of the job, and end it when needed: its wait status and usage."""
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
                self.reason = self.reason or EndReason.LEASE_EXPIRED
                self._kill_all()
                break
            if self.kill_at is not None and now >= self.kill_at:
                self._kill_all()
                break
            if self.kill_at is None and timeout_at is not None and now >= timeout_at:
                self._terminate(EndReason.TIMED_OUT, self.limits.grace_seconds)
                continue
            ready = {
                fd for fd, _ in poll.poll(self._seconds_until(now, self.kill_at, timeout_at) * 1000)
            }
            if job_fd in ready:
                break
            if wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_read, 100)
                self._terminate(EndReason.STOPPED, self.limits.grace_seconds)
            if self.pipes.control in ready:
                self._read_control()
                if self.orphaned:
                    poll.unregister(self.pipes.control)
        os.close(job_fd)
        _, status, usage = os.wait4(self.job_pid, 0)
        return status, usage

    def _seconds_until(self, now: float, *moments: float | None) -> float:
        """Return the seconds until the next deadline."""
        waits = [moment - now for moment in moments if moment is not None]
        if self.lease_deadline is not None:
            waits += [self.lease_deadline - now, _POLL_SECONDS]
        return max(0.0, min([*waits, 3600.0])) + 0.001  # poll(2) takes no more than 24 days

    def _read_control(self) -> None:
        """Read commands of the supervisor and carry them out."""
        data = os.read(self.pipes.control, 4096)
        if not data:
            self.orphaned = True
            self._terminate(EndReason.ORPHANED, ORPHAN_GRACE_SECONDS)
            return
        *lines, self.control_buffer = (self.control_buffer + data).split(b"\n")
        for line in lines:
            if line == b"T":
                self._terminate(EndReason.STOPPED, self.limits.grace_seconds)
            elif line.startswith(b"L "):
                self.lease_deadline = float(line[2:])

    def _terminate(self, reason: EndReason, grace: float) -> None:
        """Send SIGTERM to all processes, and set the time of SIGKILL, in `grace` seconds."""
        kill_at = boottime() + grace
        if self.kill_at is None or reason is EndReason.ORPHANED:
            self.reason = self.reason or reason
            self._signal_tree(signal.SIGTERM)
            self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)

    def _kill_all(self) -> None:
        self._signal_tree(signal.SIGKILL)

    def _signal_tree(self, number: int) -> bool:
        """Send a signal to all processes of the run; return whether at least one received it."""
        reached = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.job_pid, number)
            reached = True
        return signal_processes(descendants(os.getpid()), number) or reached

    def _end_leftovers(self) -> int:
        """End what the job has left running; return how many processes that were.

        If they were asked to end before, they have the rest of the grace time. A process that
        cannot be signalled, because it has changed its user, is left running.
        """
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        count = len(descendants(os.getpid()))
        if not self.reason:
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
