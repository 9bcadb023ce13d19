"""What the scheduler relies on in every executor."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chroniker.db.clock import boottime
from chroniker.executors.base import Executor, RunHandle
from chroniker.executors.local import LocalExecutor
from chroniker.masking import Masker
from tests.support.executors import InMemoryExecutor, make_run_request
from tests.support.processes import is_alive, wait_until

_keys = itertools.count(1)


def make_executor(kind: str) -> Executor:
    return LocalExecutor(Masker()) if kind == "local" else InMemoryExecutor()


@pytest.fixture(scope="module", params=["local", "in memory"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = make_executor(request.param)
    yield made
    made.close()


def start(executor: Executor, *actions: str, **options: object) -> list[RunHandle]:
    requests = [
        make_run_request(next(_keys), action, **options)  # type: ignore[arg-type]
        for action in actions
    ]
    return list(executor.start(requests))


def wait_for(executor: Executor, number: int = 1) -> list[RunHandle]:
    """The next runs to end."""
    ended: list[RunHandle] = []
    until = time.monotonic() + 20
    while len(ended) < number and time.monotonic() < until:
        ended += executor.poll(0.2)
    assert len(ended) == number
    return ended


def text_of(handle: RunHandle) -> str:
    return "".join(piece.text for piece in handle.recorder.take(final=True).pieces)


def test_each_run_is_returned_once_with_its_outcome(executor: Executor) -> None:
    good, bad = start(executor, "say hello", "exit 3")
    ended = {handle.key: handle.outcome() for handle in wait_for(executor, 2)}
    assert {key: outcome.status for key, outcome in ended.items()} == {
        good.key: "succeeded", bad.key: "failed",
    }  # fmt: skip
    assert (ended[good.key].exit_code, ended[good.key].error) == (0, "")
    assert ended[bad.key].exit_code == 3 and "exit code 3" in ended[bad.key].error
    assert not executor.poll(0)


def test_output_is_recorded_and_counted(executor: Executor) -> None:
    (handle,) = start(executor, "say hello")
    wait_for(executor)
    assert text_of(handle) == "hello\n"
    assert handle.written["stdout"] == 6


def test_stream_that_is_not_kept_is_only_counted(executor: Executor) -> None:
    (handle,) = start(executor, "say hello", streams=("log",))
    wait_for(executor)
    assert text_of(handle) == ""
    assert handle.written["stdout"] == 6


def test_last_progress_is_known_at_the_end(executor: Executor) -> None:
    (handle,) = start(executor, "report_progress_to 5")
    assert wait_for(executor) == [handle]
    assert (handle.parts, handle.parts_changed) == ((5, 5), True)
    handle.parts_changed = False
    handle.read_progress()
    assert not handle.parts_changed, "nothing new"


def test_run_that_cannot_be_started_is_returned_with_the_reason(executor: Executor) -> None:
    (handle,) = start(executor, "", raw=("/nonexistent/program",))
    assert wait_for(executor) == [handle]
    assert handle.outcome().status == "failed"
    assert handle.outcome().error


def test_poll_waits_no_longer_than_it_is_asked_to(executor: Executor) -> None:
    (handle,) = start(executor, "sleep 60")
    started = time.monotonic()
    assert not executor.poll(0.01)
    assert time.monotonic() - started < 5
    executor.stop(handle.key, "Enough.")
    wait_for(executor)


def test_stop_ends_one_run_with_the_reason(executor: Executor) -> None:
    first, second = start(executor, "sleep 60", "sleep 60")
    executor.stop(first.key, "Stopped on request.")
    assert wait_for(executor) == [first]
    assert (first.outcome().status, first.outcome().error) == ("stopped", "Stopped on request.")
    executor.stop(second.key, "Stopped as well.")
    assert wait_for(executor) == [second]
    assert second.outcome().error == "Stopped as well."


def test_run_is_interrupted_with_the_reason(executor: Executor) -> None:
    (handle,) = start(executor, "sleep 60")
    executor.interrupt(handle.key, "The scheduler shuts down.")
    assert wait_for(executor) == [handle]
    outcome = handle.outcome("The scheduler shuts down.")
    assert (outcome.status, outcome.error) == ("interrupted", "The scheduler shuts down.")


def test_abandoned_run_is_ended_and_lost(executor: Executor) -> None:
    (handle,) = start(executor, "sleep 60")
    executor.abandon(handle.key)
    assert wait_for(executor) == [handle]
    assert handle.outcome().status == "lost"


def test_run_ends_with_its_lease_unless_that_is_extended(executor: Executor) -> None:
    deadline = boottime() + 0.8
    extended, other = start(executor, "sleep 60", "sleep 60", lease_deadline=deadline)
    executor.extend(extended.key, boottime() + 60)
    assert wait_for(executor) == [other]
    assert boottime() >= deadline
    assert other.outcome().status == "lost"
    executor.stop(extended.key, "Enough.")
    assert wait_for(executor) == [extended]


def test_descriptors_are_open_files(executor: Executor) -> None:
    (handle,) = start(executor, "sleep 60")
    for fd in executor.descriptors():
        os.fstat(fd)
    executor.stop(handle.key, "Enough.")
    wait_for(executor)


def test_local_executor_names_the_files_that_would_hide_its_death() -> None:
    executor = LocalExecutor(Masker())
    start(executor, "say hello")
    assert executor.descriptors(), "the socket of the fork server, the pipes of the wardens"
    wait_for(executor)
    executor.close()


@pytest.mark.no_leftovers
def test_closing_the_local_executor_ends_what_still_runs(tmp_path: Path) -> None:
    executor, started = LocalExecutor(Masker()), tmp_path / "started"
    start(executor, f"sleep 60 {started}")
    wait_until(lambda: (executor.poll(0.01) or True) and started.exists() and started.read_text())
    pid = int(started.read_text())
    assert is_alive(pid)
    executor.close()
    wait_until(lambda: not is_alive(pid), timeout=5)
