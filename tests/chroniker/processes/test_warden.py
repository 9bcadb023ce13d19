"""The warden of a run, alone: real pipes and processes, no supervisor and no database."""

from __future__ import annotations

import json
import mmap
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from chroniker.db.clock import boottime
from chroniker.processes import warden
from chroniker.processes.warden import Pipes, RunLimits, run_warden
from tests.support.processes import ForkedProcess, wait_until
from tests.support.types import RunInFork

SHORT_TIMEOUT = 15.0
"""Seconds: far less than the minute that a job runs and its grace time of half a minute; far more
than a busy machine needs."""
STARTUP_SECONDS = 1.5
"""Seconds after which a job is running even on a busy machine."""
KINDS = ("stdout", "stderr", "log", "progress", "status")
JobFunction = Callable[[], int]


@dataclass
class WardenRun:
    """A run whose warden is a fork of the test; the test is its supervisor."""

    warden: ForkedProcess
    control: int
    sources: dict[str, int]
    received: dict[str, bytes] = field(default_factory=lambda: dict.fromkeys(KINDS, b""))

    def send(self, line: bytes) -> None:
        os.write(self.control, line)

    def close_control(self) -> None:
        """Close the pipes, as the death of a supervisor does."""
        os.close(self.control)
        self.control = -1

    def read(self, kind: str = "status") -> bytes:
        """All bytes read from a pipe so far."""
        while select.select([self.sources[kind]], [], [], 0)[0]:
            data = os.read(self.sources[kind], 65536)
            if not data:
                break
            self.received[kind] += data
        return self.received[kind]

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read().splitlines()]

    def job_pid(self) -> int:
        reported: int = wait_until(self.messages, 20)[0]["pid"]
        return reported

    def wait(self, timeout: float = 20) -> dict[str, Any]:
        """The final status message, which comes once and last."""
        assert self.warden.wait(timeout).exit_code == 0
        messages = self.messages()
        endings = [message for message in messages if "ending" in message]
        assert endings == messages[-1:], messages
        ending: dict[str, Any] = endings[0]["ending"]
        return ending


def _run_warden(
    limits: RunLimits,
    pipes: Pipes,
    not_ours: list[int],
    job: JobFunction,
    after_fork: Callable[[], None] | None,
) -> None:
    for fd in not_ours:
        os.close(fd)
    if after_fork is not None:
        os.register_at_fork(after_in_child=after_fork)
    run_warden(limits, pipes, job)


@pytest.fixture
def start_warden(run_in_fork: RunInFork) -> Iterator[Callable[..., WardenRun]]:
    """``start_warden(job, timeout=…, grace=…, lease=…)``: a run with a warden in a fork."""
    runs: list[WardenRun] = []

    def start(
        job: JobFunction,
        *,
        timeout: float | None = None,
        grace: float = 5.0,
        lease: float | None = None,
        memory: int | None = None,
        nice: int = 0,
        after_fork: Callable[[], None] | None = None,
    ) -> WardenRun:
        limits = RunLimits(timeout, grace, lease, memory, nice)
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        for kind in KINDS:
            ours[kind], theirs[kind] = os.pipe()
        theirs["control"], control = os.pipe()
        theirs["page"] = os.memfd_create("page")
        fds_to_close = [*ours.values(), control]
        for run in runs:
            fds_to_close += [fd for fd in (*run.sources.values(), run.control) if fd >= 0]
        warden = run_in_fork(_run_warden, limits, Pipes(**theirs), fds_to_close, job, after_fork)
        for fd in theirs.values():
            os.close(fd)
        runs.append(WardenRun(warden, control, ours))
        return runs[-1]

    yield start
    for run in runs:
        for fd in (*run.sources.values(), run.control):
            if fd >= 0:
                os.close(fd)


# --- jobs -----------------------------------------------------------------------------------


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def sleep_on() -> int:
    """Print a line and wait."""
    os.write(1, b"up\n")
    time.sleep(60)
    return 0


def run_ignoring_sigterm() -> int:
    ignore_sigterm()
    return sleep_on()


def run_until_sigterm() -> int:
    """Print a line at SIGTERM."""

    def leave(*_: object) -> None:
        os.write(1, b"bye\n")
        os._exit(5)

    signal.signal(signal.SIGTERM, leave)
    return sleep_on()


def daemonise(number: int) -> None:
    """Start processes in sessions of their own that are not children of this one."""
    for _ in range(number):
        first = os.fork()
        if first == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(1, b"up\n")
                signal.pause()
            os._exit(0)
        os.waitpid(first, 0)


def run_tree_ignoring_sigterm() -> int:
    ignore_sigterm()
    daemonise(3)
    if os.fork() == 0:
        signal.pause()
    return sleep_on()


def wait_until_started(run: WardenRun, times: int = 1) -> None:
    wait_until(lambda: run.read("stdout").count(b"up\n") >= times, 20, 0.005, "the job's being up")


def seconds_until_end(run: WardenRun) -> float:
    began = time.monotonic()
    run.warden.wait(20)
    return time.monotonic() - began


# --- ending by itself -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_code_is_reported_once(start_warden: Callable[..., WardenRun], code: int) -> None:
    run = start_warden(lambda: code)

    ending = run.wait()

    assert (ending["code"], ending["signal"], ending["reason"]) == (code, None, "")
    assert ending["leftovers"] == 0
    assert [list(message) for message in run.messages()] == [["pid"], ["ending"]]
    assert 0 <= ending["seconds"] < 2
    assert ending["max_rss_bytes"] > 2**20


def test_signal_is_reported(start_warden: Callable[..., WardenRun]) -> None:
    def job() -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    ending = start_warden(job).wait()

    assert (ending["code"], ending["signal"], ending["reason"]) == (None, 9, "")


def test_start_failure_is_reported_with_its_reason(start_warden: Callable[..., WardenRun]) -> None:
    def job() -> int:
        raise FileNotFoundError("no such program")

    run = start_warden(job)

    assert run.wait()["code"] == 127
    # The job and the warden both write; either may be first.
    assert {"error": "The job could not be started: no such program"} in run.messages()


def test_wall_time_and_cpu_time_are_measured(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        return 0

    ending = start_warden(job).wait()

    assert 0.2 <= ending["cpu_seconds"] < 1
    assert ending["seconds"] >= 0.2


def test_end_of_job_that_closed_its_files_is_reported(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        os.closerange(0, 1024)
        time.sleep(0.1)
        return 7

    assert start_warden(job).wait()["code"] == 7


def test_job_inherits_no_control_pipe_and_an_empty_stdin(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        pipes = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{fd}")]  # fmt: skip
        os.write(1, "\n".join([repr(os.read(0, 10)), *pipes]).encode())
        return 0

    run = start_warden(job)
    control = os.readlink(f"/proc/self/fd/{run.control}")
    run.wait()

    reported = run.read("stdout").decode().splitlines()
    assert reported[0] == "b''"
    assert len(reported) > 3
    assert control not in reported


# --- leftovers ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 4])
def test_leftover_processes_are_counted_and_killed(
    start_warden: Callable[..., WardenRun], number: int
) -> None:
    def job() -> int:
        daemonise(number)
        return 0

    ending = start_warden(job).wait()

    assert (ending["code"], ending["leftovers"], ending["reason"]) == (0, number, "")


def test_leftovers_ignoring_sigterm_are_killed(start_warden: Callable[..., WardenRun]) -> None:
    def job() -> int:
        ignore_sigterm()
        daemonise(2)
        return 0

    run = start_warden(job, grace=0.2)

    assert seconds_until_end(run) < 1.5
    assert run.wait()["leftovers"] == 2


def test_child_that_has_exited_is_not_a_leftover(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        for _ in range(5):
            if (pid := os.fork()) == 0:
                os._exit(0)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie
        return 0

    assert start_warden(job).wait()["leftovers"] == 0


# --- the supervisor dies --------------------------------------------------------------------


def test_tree_ignoring_sigterm_dies_within_two_seconds_of_its_supervisor(
    start_warden: Callable[..., WardenRun],
) -> None:
    def seconds() -> float:
        run = start_warden(run_tree_ignoring_sigterm, grace=30)
        wait_until_started(run, 4)
        tree = psutil.Process(run.warden.pid).children(recursive=True)
        assert len(tree) == 5

        run.close_control()

        took = seconds_until_end(run)
        assert run.wait()["reason"] == "orphan"
        assert not any(process.is_running() for process in tree)
        return took

    assert any(seconds() < 2 for _ in range(3))  # a busy machine may be late


def test_job_obeying_sigterm_ends_at_once_when_the_supervisor_dies(
    start_warden: Callable[..., WardenRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "ORPHAN_GRACE_SECONDS", 30)
    run = start_warden(run_until_sigterm, grace=30)
    wait_until_started(run)

    run.close_control()

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["code"] == 5


def test_death_of_the_supervisor_shortens_the_grace_time(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(run_ignoring_sigterm, grace=30)
    wait_until_started(run)
    run.send(b"T\n")

    run.close_control()

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["reason"] == "stop"


# --- the lease ------------------------------------------------------------------------------


def test_run_is_killed_when_its_lease_ends(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(run_until_sigterm, grace=30, lease=boottime() + 60)
    wait_until_started(run)
    deadline = boottime() + 0.5
    run.send(f"L {deadline}\n".encode())

    ending = run.wait()

    assert deadline - 0.05 < boottime() < deadline + SHORT_TIMEOUT
    assert (ending["reason"], ending["signal"]) == ("lease", 9)
    assert b"bye" not in run.read("stdout"), "there is no time to say goodbye"


def test_end_of_lease_kills_the_whole_tree(start_warden: Callable[..., WardenRun]) -> None:
    run = start_warden(run_tree_ignoring_sigterm, grace=30, lease=boottime() + 60)
    wait_until_started(run, 4)
    tree = psutil.Process(run.warden.pid).children(recursive=True)
    run.send(f"L {boottime() + 0.2}\n".encode())

    assert run.wait()["reason"] == "lease"
    assert len(tree) == 5
    assert not any(process.is_running() for process in tree)


def test_run_with_an_expired_lease_is_killed_soon_after_its_start(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(sleep_on, lease=boottime() - 100)

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["reason"] == "lease"


def test_lease_can_be_extended_and_shortened(start_warden: Callable[..., WardenRun]) -> None:
    first = boottime() + STARTUP_SECONDS
    run = start_warden(sleep_on, lease=first)
    run.send(f"L {first + 60}\n".encode())
    wait_until(lambda: boottime() > first + 0.2)
    assert run.warden.alive

    run.send(f"L {boottime() - 1}\n".encode())

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["reason"] == "lease"


def test_control_messages_may_arrive_in_pieces(start_warden: Callable[..., WardenRun]) -> None:
    run = start_warden(sleep_on, lease=boottime() + 30)
    for byte in f"L {boottime() + 0.2}\n".encode():
        run.send(bytes([byte]))
        time.sleep(0.002)

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["reason"] == "lease"


# --- time limits and stops ------------------------------------------------------------------


def test_sigterm_that_arrives_while_the_job_is_forked_is_not_lost(
    start_warden: Callable[..., WardenRun],
) -> None:
    def stop_at_once() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    run = start_warden(sleep_on, grace=30, after_fork=stop_at_once)

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["signal"] == signal.SIGTERM


def test_job_gets_sigterm_at_its_timeout(start_warden: Callable[..., WardenRun]) -> None:
    run = start_warden(run_until_sigterm, timeout=STARTUP_SECONDS, grace=30)

    ending = run.wait()

    assert (ending["reason"], ending["code"]) == ("timeout", 5)
    assert run.read("stdout") == b"up\nbye\n"


def test_job_ignoring_its_timeout_is_killed_after_the_grace_time(
    start_warden: Callable[..., WardenRun],
) -> None:
    ending = start_warden(run_tree_ignoring_sigterm, timeout=STARTUP_SECONDS, grace=0.4).wait()

    assert (ending["reason"], ending["signal"]) == ("timeout", 9)
    assert STARTUP_SECONDS + 0.4 <= ending["seconds"] < SHORT_TIMEOUT


def test_job_without_grace_time_is_killed_at_its_timeout(
    start_warden: Callable[..., WardenRun],
) -> None:
    ending = start_warden(run_ignoring_sigterm, timeout=STARTUP_SECONDS, grace=0).wait()

    assert (ending["reason"], ending["signal"]) == ("timeout", 9)
    assert ending["seconds"] < SHORT_TIMEOUT


@pytest.mark.parametrize("why", ["timeout", "stop"])
def test_grandchild_gets_the_grace_time_after_its_parent_ended(
    start_warden: Callable[..., WardenRun], why: str
) -> None:
    """A shell that runs a program, as raw commands often are."""
    seconds = 0.3 if why == "timeout" else 2.4

    def tidy_up(*_: object) -> None:
        time.sleep(seconds)
        os.write(1, b"tidied up\n")
        os._exit(0)

    def job() -> int:
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, tidy_up)
        return sleep_on()

    run = start_warden(job, timeout=STARTUP_SECONDS if why == "timeout" else None, grace=30)
    wait_until_started(run, 2)
    if why == "stop":
        run.send(b"T\n")

    assert run.wait()["reason"] == why
    assert b"tidied up" in run.read("stdout")


def test_stop_sends_one_sigterm_and_waits_the_grace_time(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(run_ignoring_sigterm, grace=0.5)
    wait_until_started(run)

    def ask_again() -> bool:
        with suppress(BrokenPipeError):
            run.send(b"T\n")
        return not run.warden.alive

    wait_until(ask_again, SHORT_TIMEOUT, 0.05)  # a second request does not extend the grace time

    ending = run.wait()
    assert (ending["reason"], ending["signal"]) == ("stop", 9)
    assert ending["seconds"] >= 0.5


def test_sigterm_to_the_warden_stops_the_job(start_warden: Callable[..., WardenRun]) -> None:
    run = start_warden(run_until_sigterm)
    wait_until_started(run)

    run.warden.kill(signal.SIGTERM)
    ending = run.wait()

    assert (ending["reason"], ending["code"]) == ("stop", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE])
def test_warden_ignores_other_signals(
    start_warden: Callable[..., WardenRun], number: signal.Signals
) -> None:
    run = start_warden(run_until_sigterm)
    wait_until_started(run)

    run.warden.kill(number)
    run.send(b"T\n")
    assert run.wait()["code"] == 5


def test_suspended_job_is_killed_at_its_timeout(start_warden: Callable[..., WardenRun]) -> None:
    run = start_warden(sleep_on, timeout=STARTUP_SECONDS, grace=0.2)
    wait_until_started(run)
    os.kill(run.job_pid(), signal.SIGSTOP)

    ending = run.wait()

    assert (ending["reason"], ending["signal"]) == ("timeout", 9)


def test_suspended_job_is_killed_when_its_lease_ends(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(sleep_on, lease=boottime() + 60)
    wait_until_started(run)
    os.kill(run.job_pid(), signal.SIGSTOP)
    run.send(f"L {boottime() + 0.2}\n".encode())

    assert run.wait()["reason"] == "lease"


# --- hostile jobs ---------------------------------------------------------------------------


def test_tree_that_keeps_forking_is_killed_completely(
    start_warden: Callable[..., WardenRun],
) -> None:
    """At most 50 processes, each in its own session; every survivor forks the next one."""
    tokens_read, tokens = os.pipe()
    os.write(tokens, b"." * 50)
    os.close(tokens)

    def job() -> int:
        ignore_sigterm()
        os.write(1, b"up\n")
        while os.read(tokens_read, 1):
            if os.fork() == 0:
                os.setsid()
            time.sleep(0.004)
        time.sleep(60)
        return 0

    run = start_warden(job, grace=30)
    os.close(tokens_read)
    wait_until_started(run)
    time.sleep(0.02)  # while it is forking

    run.close_control()

    assert seconds_until_end(run) < SHORT_TIMEOUT
    assert run.wait()["reason"] == "orphan"


def test_when_the_warden_is_killed_the_job_dies_with_it(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(run_ignoring_sigterm)
    wait_until_started(run)
    job = psutil.Process(run.job_pid())

    run.warden.kill()

    assert run.warden.wait(5).signal == signal.SIGKILL
    wait_until(lambda: not job.is_running() or job.status() == psutil.STATUS_ZOMBIE)
    assert [list(message) for message in run.messages()] == [["pid"]]


def test_job_that_signals_its_group_does_not_reach_its_warden(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        os.killpg(0, signal.SIGKILL)
        return 0

    assert start_warden(job).wait()["signal"] == 9


def test_job_blocked_on_a_full_pipe_is_still_killed(
    start_warden: Callable[..., WardenRun],
) -> None:
    def job() -> int:
        while True:
            os.write(1, b"x" * 65536)

    assert start_warden(job, timeout=0.3, grace=0.2).wait()["reason"] == "timeout"


def test_warden_exits_when_its_status_pipe_is_closed(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(sleep_on, grace=1)
    wait_until_started(run)
    os.close(run.sources.pop("status"))

    run.send(b"T\n")

    assert run.warden.wait(5).exit_code == 0


# --- limits ---------------------------------------------------------------------------------


def test_niceness_applies_to_the_job_and_not_to_the_warden(
    start_warden: Callable[..., WardenRun],
) -> None:
    run = start_warden(lambda: os.nice(0), nice=7)

    before = os.nice(0)
    assert run.wait()["code"] == before + 7


def test_memory_limit_applies_to_the_heap_and_not_to_mappings(
    start_warden: Callable[..., WardenRun], tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(2**30)

    def job() -> int:
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == 2**28
        with large.open("rb") as file:
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ).close()
        with suppress(MemoryError):
            bytearray(2**29)
            return 1
        return 0

    assert start_warden(job, memory=2**28).wait()["code"] == 0
