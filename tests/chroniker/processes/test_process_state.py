"""What code leaves changed in its process is noticed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from chroniker.processes.process_state import (
    ProcessState,
    count_threads,
    environment,
    private_bytes,
)
from tests.support.types import RunInFork
from tests.testapp.unruly import ACTIONS


def lower_limit() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))


def leave_directory_deleted() -> None:
    import tempfile

    path = tempfile.mkdtemp()
    os.chdir(path)
    os.rmdir(path)


CHANGES: dict[str, tuple[Callable[[], Any], str]] = {
    "directory": (ACTIONS["change_directory"], "directory"),
    "deleted directory": (leave_directory_deleted, "directory"),
    "umask": (ACTIONS["change_umask"], "kernel"),
    "disposition": (ACTIONS["change_signals"], "kernel"),
    "handler": (lambda: signal.signal(signal.SIGINT, lambda *_: None), "handlers"),
    "mask": (ACTIONS["block_signals"], "kernel"),
    "timer": (lambda: signal.setitimer(signal.ITIMER_REAL, 100), "timer"),
    "limit": (lower_limit, "limits"),
    "priority": (lambda: os.nice(1), "priority"),
    "thread": (ACTIONS["start_thread"], "threads"),
    "stdout": (ACTIONS["change_stdout"], "streams"),
    "socket timeout": (ACTIONS["change_socket_timeout"], "socket_timeout"),
    "language": (ACTIONS["change_language"], "language"),
    "path": (lambda: sys.path.append("/x"), "path"),
    "warnings": (lambda: __import__("warnings").filterwarnings("ignore", "x"), "filters"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_noticed(run_in_fork: RunInFork, change: str) -> None:
    action, expected = CHANGES[change]

    def work() -> str:
        # A shell starts what runs in the background with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before, stdout = ProcessState.take(), sys.stdout
        action()
        difference = before.difference(ProcessState.take())
        sys.stdout = stdout
        return difference

    assert run_in_fork(work).wait(10).value == expected


def test_process_that_nothing_changes_stays_the_same() -> None:
    before = ProcessState.take()
    assert before.difference(ProcessState.take()) == ""


def test_change_of_the_environment_is_noticed(run_in_fork: RunInFork) -> None:
    def work() -> bool:
        before = environment()
        ACTIONS["change_environment"]()
        return before != environment()

    assert run_in_fork(work).wait(10).value is True
    assert environment() == dict(os.environb)


def test_threads_and_memory_are_counted() -> None:
    before, memory = count_threads(), private_bytes()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    block = b"x" * 30 * 2**20
    assert count_threads() == before + 1
    assert private_bytes() > memory + 20 * 2**20
    del block
    stop.set()
    thread.join()
