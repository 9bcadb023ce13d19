"""One run as its supervisor sees it: the request, the pipes, what was read from them, the outcome.

Nothing here knows the database.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass

from chroniker import progress
from chroniker.db.clock import boottime
from chroniker.enums import RunStatus
from chroniker.masking import Masker

from .forkserver import StartRequest
from .locks import FileLock
from .output import Recorder
from .warden import EndReason, ExitReport, Pipes

_WARDEN_EXIT_SECONDS = 10.0
"""How long a warden may live after the end of the grace time. Then the supervisor kills it."""
_MAX_LINE_BYTES = 4096
_OUTPUT_PIPES = ("stdout", "stderr", "log", "progress", "status")


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run to start."""

    key: int
    """The caller's identifier of the run."""
    start_request: StartRequest
    streams: tuple[str, ...]
    """The streams whose output is kept."""
    output_bytes: int
    stderr_is_failure: bool
    lock: FileLock | None = None
    """A lock that only the run holds until all of its processes are dead."""
    batch: BatchMember | None = None
    """Set if it may be executed together with other runs."""


@dataclass(frozen=True, slots=True)
class BatchMember:
    """What the process of a batch has to know of a run."""

    runner: str
    """The name in the registry of :mod:`chroniker.extensions`."""
    job: int
    """The primary key of the job."""
    host: str
    """The placement."""


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


class RunPipes:
    """The supervisor's ends of a run's pipes."""

    __slots__ = ("control", "page", "sources")

    def __init__(self) -> None:
        self.control = -1
        self.sources: dict[int, str] = {}
        """File descriptor to what is read from it."""
        self.page: progress.ProgressPage | None = None

    def open(self) -> Pipes:
        """Create the pipes and return the far ends, which the caller has to close.

        Raises OSError, and leaves nothing open, if this process may not open more files.
        """
        theirs: dict[str, int] = {}
        try:
            self.page = self.page or progress.ProgressPage()
            for kind in _OUTPUT_PIPES:
                fd, theirs[kind] = os.pipe2(os.O_CLOEXEC)
                self.sources[fd] = kind
            theirs["control"], self.control = os.pipe2(os.O_CLOEXEC)
        except OSError:
            for fd in theirs.values():
                os.close(fd)
            self.discard()
            raise
        for fd in (*self.sources, self.control):
            os.set_blocking(fd, False)
        return Pipes(page=self.page.fd, **theirs)

    def discard(self) -> None:
        """Close the pipes of a run that was not started; the page is kept for the next attempt."""
        for fd in self.sources:
            os.close(fd)
        self.sources.clear()
        self.close_control()

    def close_control(self) -> None:
        """Close the control pipe; to the warden this means that the supervisor is dead."""
        if self.control >= 0:
            os.close(self.control)
            self.control = -1

    def close_page(self) -> None:
        """Close the shared page of the progress."""
        if self.page:
            self.page.close()
            self.page = None

    def send(self, line: bytes) -> None:
        """Write to the warden. A warden that is dead or stopped by a signal does not read it."""
        with contextlib.suppress(OSError):
            os.write(self.control, line)

    def descriptors(self) -> list[int]:
        """Return every open descriptor."""
        fds = [*self.sources, self.control, self.page.fd if self.page else -1]
        return [fd for fd in fds if fd >= 0]


class ProgressReader:
    """The progress of a run, as the job last reported it."""

    __slots__ = ("_rest", "_stamp", "changed", "parts")

    def __init__(self) -> None:
        self.parts: tuple[int, int] | None = None
        self.changed = False
        self._stamp = 0
        self._rest = b""

    def read_page(self, page: progress.ProgressPage | None) -> None:
        """Read the page that the job writes."""
        values = page.read() if page else None
        if values and values[0] != self._stamp:
            self._stamp = values[0]
            self._set(values[1], values[2])

    def feed(self, data: bytes) -> None:
        """Read the ``done/total`` lines of a raw command."""
        *lines, self._rest = (self._rest + data)[-_MAX_LINE_BYTES:].split(b"\n")
        for line in reversed(lines):
            if values := progress.parse_line(line):
                self._set(*values)
                break

    def _set(self, total: int, done: int) -> None:
        if (total, done) != self.parts:
            self.parts = (total, done)
            self.changed = True


class StatusReader:
    """What warden and job wrote to the status pipe."""

    __slots__ = ("_rest", "ending", "error", "job_pid", "lost", "note")

    def __init__(self) -> None:
        self.job_pid: int | None = None
        self.error = ""
        self.lost = False
        """Whether the job itself does not know how its task ended."""
        self.note = ""
        """What to add to the reason if the run is ended from outside."""
        self.ending: ExitReport | None = None
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Read the lines; one that cannot be parsed is ignored."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                message = json.loads(line)
                if "pid" in message:
                    self.job_pid = message["pid"]
                if "error" in message:
                    self.error = str(message["error"])
                    self.lost = "lost" in message
                if "note" in message:
                    self.note = str(message["note"])
                if "ending" in message:
                    self.ending = ExitReport.load(message["ending"])


class WardenProcess:
    """The warden of a run, as soon as the fork server has reported it."""

    __slots__ = ("kill_at", "pid", "pidfd")

    def __init__(self) -> None:
        self.pid = 0
        self.pidfd = -1
        self.kill_at = float("inf")
        """When the supervisor kills it, ``time.monotonic()``."""

    def kill_within(self, seconds: float) -> None:
        """Set the time at which the supervisor kills it, unless an earlier one is set."""
        self.kill_at = min(self.kill_at, time.monotonic() + seconds)

    def kill(self) -> None:
        """Kill it, if it is known and alive."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)


class RunningChild:
    """A run that this process supervises."""

    def __init__(self, request: RunRequest, masker: Masker) -> None:
        self.request = request
        self.key = request.key
        self.recorder = Recorder(request.streams, request.output_bytes, masker)
        self.written = {"stdout": 0, "stderr": 0, "log": 0}
        """Bytes of each stream, including those that are not kept."""
        self.pipes = RunPipes()
        self.progress = ProgressReader()
        self.status = StatusReader()
        self.warden = WardenProcess()
        self.start_error = ""
        self.stop_reason = ""
        self.interrupted = False
        """Whether the shutdown of the scheduler ends it, and no person."""
        self.lease_lost = False
        self._masker = masker
        limits = request.start_request.limits
        if limits.timeout_seconds:
            self.warden.kill_within(
                limits.timeout_seconds + limits.grace_seconds + _WARDEN_EXIT_SECONDS
            )

    @property
    def warden_pid(self) -> int:
        """Process id of the warden; 0 if it is not known yet."""
        return self.warden.pid

    @property
    def payload(self) -> None:
        """Only runs of batches give something to record."""
        return None

    @property
    def parts(self) -> tuple[int, int] | None:
        """Progress as last reported, ``(total, done)``; None if nothing was reported."""
        return self.progress.parts

    @property
    def parts_changed(self) -> bool:
        """Whether `parts` has changed since the caller set this to False."""
        return self.progress.changed

    @parts_changed.setter
    def parts_changed(self, changed: bool) -> None:
        self.progress.changed = changed

    def handle_data(self, kind: str, data: bytes) -> None:
        """Process what was read from one of the pipes."""
        if kind == "status":
            self.status.feed(data)
        elif kind == "progress":
            self.progress.feed(data)
        else:
            self.written[kind] += len(data)
            if kind in self.request.streams:
                self.recorder.feed(kind, data)

    def read_progress(self) -> None:
        """Read the progress from the page that the job writes."""
        self.progress.read_page(self.pipes.page)

    def stop(self, reason: str, *, interrupted: bool = False) -> None:
        """Ask the warden to end the run: SIGTERM, the grace time, SIGKILL.

        ``interrupted``: because the scheduler shuts down. A person's request replaces that.
        """
        if self.stop_reason:
            if self.interrupted and not interrupted:
                self.stop_reason, self.interrupted = reason, False
        else:
            self.stop_reason, self.interrupted = reason, interrupted
            self.pipes.send(b"T\n")
            grace = self.request.start_request.limits.grace_seconds
            self.warden.kill_within(grace + _WARDEN_EXIT_SECONDS)

    def abandon(self) -> None:
        """End the run at once, because its lease was lost: another host may own it now."""
        self.lease_lost = True
        self.pipes.send(f"L {boottime() - 1}\n".encode())
        self.warden.kill_at = time.monotonic() + 1.0

    def extend(self, deadline: float) -> None:
        """Report to the warden that the lease now ends at `deadline` (CLOCK_BOOTTIME)."""
        self.pipes.send(f"L {deadline}\n".encode())

    def outcome(self, shutdown_reason: str = "") -> Outcome:
        """Return how the run ended; valid after the supervisor has reported its end.

        ``shutdown_reason``: the scheduler has been asked to shut down. A service manager may send
        SIGTERM to all processes of the service at the same time, jobs and wardens included.
        """
        ending = self.status.ending
        if self.start_error and self.status.job_pid is None:
            if shutdown_reason:  # the fork server may have received the same SIGTERM
                return Outcome(RunStatus.INTERRUPTED, shutdown_reason)
            return Outcome(RunStatus.FAILED, self.start_error)
        if ending is None or ending.reason is EndReason.ORPHANED:
            error = self.status.error or (
                "The run's warden process died, so it is not known how far the job came."
            )
            return Outcome(RunStatus.LOST, self._masked(error, self.status.note))
        status, error = self._decide_status(ending, shutdown_reason)
        by_itself = ending.reason is EndReason.NONE and ending.signal is None
        return Outcome(
            status,
            self._masked(error, "" if by_itself else self.status.note),
            ending.code,
            ending.signal,
            ending.seconds,
            ending.cpu_seconds,
            ending.max_rss_bytes,
        )

    def _masked(self, *sentences: str) -> str:
        return " ".join(self._masker.mask_shortened(each) for each in sentences if each)

    def _decide_status(self, ending: ExitReport, shutdown_reason: str) -> tuple[RunStatus, str]:
        if self.lease_lost or ending.reason is EndReason.LEASE_EXPIRED:
            return RunStatus.LOST, "Ended, because its lease could not be renewed in time."
        if ending.reason is EndReason.TIMED_OUT:
            limit = self.request.start_request.limits.timeout_seconds
            return RunStatus.TIMED_OUT, f"Ended, because it ran longer than {limit:g} s."
        if ending.reason is not EndReason.NONE:
            if self.interrupted or (shutdown_reason and not self.stop_reason):
                return RunStatus.INTERRUPTED, self.stop_reason or shutdown_reason
            reason = self.stop_reason or "Stopped by a signal to its warden process."
            return RunStatus.STOPPED, reason
        if ending.signal == signal.SIGTERM and shutdown_reason:
            return RunStatus.INTERRUPTED, shutdown_reason
        if ending.signal is not None:
            name = f" {signal.Signals(ending.signal).name}" if ending.signal < 32 else ""
            hint = " (possibly out of memory)" if ending.signal == signal.SIGKILL else ""
            return RunStatus.FAILED, f"Killed by signal {ending.signal}{name}{hint}."
        if ending.code and self.status.lost:
            return RunStatus.LOST, self.status.error
        if ending.code:
            return RunStatus.FAILED, self.status.error or f"Ended with exit code {ending.code}."
        if self.request.stderr_is_failure and self.written["stderr"]:
            return RunStatus.FAILED, "It wrote to stderr, which counts as a failure of this job."
        return RunStatus.SUCCEEDED, ""
