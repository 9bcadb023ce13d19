"""Kernel locks that show which owners are alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from chroniker.processes.locks import (
    FileLock,
    OwnerLock,
    owner_is_dead,
    owner_is_stopped,
    remove_owner_lock,
)
from tests.support.processes import ForkedProcess, wait_until
from tests.support.types import RunInFork


def lock_name(directory: Path) -> str:
    """Wait for the only lock file; its name."""
    return wait_until(lambda: next(iter(os.listdir(directory)), ""), message="a lock file")


def hold_lock(directory: str, ready: str, children: int = 0) -> None:
    """Act as a tick whose children inherit its lock; write all pids to a file."""
    OwnerLock(directory)
    pids = [os.getpid()]
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.pause()
        pids.append(pid)
    Path(f"{ready}.part").write_text(" ".join(map(str, pids)))
    os.rename(f"{ready}.part", ready)
    signal.pause()


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    directory = tmp_path / "locks"
    directory.mkdir()
    return directory


@pytest.fixture
def tick(
    run_in_fork: RunInFork, locks: Path, tmp_path: Path
) -> Callable[..., tuple[ForkedProcess, list[int]]]:
    """``tick(children=n)``: a process that holds an OwnerLock, and the pids that share it."""

    def start(children: int = 0) -> tuple[ForkedProcess, list[int]]:
        ready = tmp_path / "ready"
        forked = run_in_fork(hold_lock, str(locks), str(ready), children)
        pids = wait_until(lambda: ready.exists() and ready.read_text().split())
        return forked, [int(pid) for pid in pids or ()]

    return start


# --- one lock -------------------------------------------------------------------------------


def test_lock_is_exclusive_and_free_after_release(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")

    assert first.acquire(wait=False)
    assert not second.acquire(wait=False)
    assert second.fd == -1
    first.release()
    assert second.acquire(wait=False)
    second.release(unlink=True)
    assert os.listdir(tmp_path) == []


def test_release_is_idempotent(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    lock.release()
    assert lock.acquire(wait=False)
    lock.release()
    lock.release()
    lock.close()


def test_waiting_takes_the_lock_when_it_becomes_free(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire(wait=False)
    begin = time.monotonic()
    threading.Timer(0.1, first.release).start()

    assert second.acquire(wait=True)
    assert time.monotonic() - begin > 0.05
    second.release()


def test_refused_lock_leaks_no_descriptor(tmp_path: Path) -> None:
    held = FileLock(tmp_path / "lock")
    assert held.acquire(wait=False)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert not FileLock(tmp_path / "lock").acquire(wait=False)
    assert len(os.listdir("/proc/self/fd")) == before
    held.release()


def test_note_replaces_what_an_earlier_owner_noted(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    (tmp_path / "lock").write_text("a much longer note of another process")
    assert lock.acquire(wait=False)

    lock.note("4711\n")

    assert (tmp_path / "lock").read_text() == "4711\n"
    lock.release()


def test_lock_file_is_private_to_its_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        lock = FileLock(tmp_path / "lock")
        assert lock.acquire(wait=False)
    finally:
        os.umask(before)
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    lock.release()


def test_executed_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.acquire(wait=False)
    code = f"import os; print([os.path.realpath(f'/proc/self/fd/{lock.fd}')])"

    reported = subprocess.run(
        [sys.executable, "-c", code], close_fds=False, capture_output=True, text=True, check=True
    )

    assert "lock" not in reported.stdout
    lock.release()


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_symbolic_link_is_not_followed(tmp_path: Path, target: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / target)

    with pytest.raises(OSError, match="symbolic links"):
        FileLock(tmp_path / "lock").acquire(wait=False)

    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock(tmp_path / "nowhere" / "lock").acquire(wait=False)


# --- owners ---------------------------------------------------------------------------------


def test_owner_is_alive_while_any_child_holds_its_lock(
    tick: Callable[..., tuple[ForkedProcess, list[int]]], locks: Path
) -> None:
    forked, pids = tick(children=3)
    name = lock_name(locks)
    assert name.startswith(f"tick-{pids[0]}-")
    # The tick first: its children get another parent and keep the lock.
    for pid in pids:
        assert not owner_is_dead(str(locks), name)
        os.kill(pid, signal.SIGKILL)
        if pid == pids[0]:
            forked.wait(5)
    wait_until(lambda: owner_is_dead(str(locks), name), 5, message="the owner's death")

    assert owner_is_dead(str(locks), name), "the first to ask may have died since"
    remove_owner_lock(str(locks), name)
    assert not (locks / name).exists()
    assert not owner_is_dead(str(locks), name), "it can no longer be known"


def test_suspended_owner_is_alive(
    tick: Callable[..., tuple[ForkedProcess, list[int]]], locks: Path
) -> None:
    _, [pid] = tick()
    name = lock_name(locks)
    assert not owner_is_stopped(name)

    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: owner_is_stopped(name), 5)
    assert not owner_is_dead(str(locks), name)

    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not owner_is_stopped(name), 5)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: owner_is_stopped(name), 5)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: owner_is_dead(str(locks), name), 5)
    assert not owner_is_stopped(name)


def test_reused_pid_of_a_dead_owner_is_not_the_owner(
    run_in_fork: RunInFork,
) -> None:
    stranger = run_in_fork(signal.pause)
    os.kill(stranger.pid, signal.SIGSTOP)
    wait_until(lambda: psutil.Process(stranger.pid).status() == psutil.STATUS_STOPPED, 5)

    # A reader that trusted the number would kill that process.
    assert not owner_is_stopped(f"tick-{stranger.pid}-0123456789abcdef.lock")


def test_two_owners_in_one_process_are_distinct(locks: Path) -> None:
    first, second = OwnerLock(str(locks)), OwnerLock(str(locks))

    assert first.name != second.name
    first.close()
    assert owner_is_dead(str(locks), first.name)
    remove_owner_lock(str(locks), first.name)
    assert not owner_is_dead(str(locks), second.name)
    second.release(unlink=True)


@pytest.mark.parametrize(
    "name",
    ["", "../victim", "tick-/../../victim", "/etc/passwd", "victim", ".", "..", "tick-",
     "tick-1-2.lock", "tick-\0", "tick-" + "x" * 300, "tick-1\n", "tick-\udcff"],
)  # fmt: skip
def test_foreign_and_missing_names_are_not_dead_owners(
    tmp_path: Path, locks: Path, name: str
) -> None:
    (tmp_path / "victim").write_text("precious")
    (locks / "victim").write_text("precious")

    assert not owner_is_dead(str(locks), name)
    assert not owner_is_dead(str(tmp_path / "nowhere"), name)
    assert not owner_is_stopped(name)
    assert (tmp_path / "victim").exists()
    assert os.listdir(locks) == ["victim"], "looking creates no files"


def test_foreign_file_is_not_a_dead_owner(tmp_path: Path, locks: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (locks / "tick-1-link.lock").symlink_to(tmp_path / "victim")
    (locks / "tick-1-dangling.lock").symlink_to(tmp_path / "nowhere")
    (locks / "tick-1-directory.lock").mkdir()
    before = sorted(os.listdir(locks))

    for name in before:
        assert not owner_is_dead(str(locks), name)

    assert sorted(os.listdir(locks)) == before
    assert sorted(os.listdir(tmp_path)) == ["locks", "victim"]


@pytest.mark.parametrize(
    "name", ["tick", "tick-", "tick-x-1.lock", "tick--1", "tick-0-1", "tick-1"]
)
def test_owner_without_a_process_is_not_suspended(name: str) -> None:
    assert not owner_is_stopped(name)
