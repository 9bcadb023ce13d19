"""A call with a deadline that callers share."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import DatabaseError

from chroniker_monitors.collector.deadline import (
    MAX_ABANDONED_THREADS,
    DeadlineExceeded,
    SharedCall,
)
from tests.support.metrics_page import scrape_threads
from tests.support.processes import wait_until


def test_concurrent_callers_share_the_next_result() -> None:
    """Not the current result, which may have been read before they called."""
    calls: list[int] = []
    go = threading.Event()

    def slow(alias: str, number: int, seconds: float) -> int:
        calls.append(number)
        go.wait(5)
        return number

    shared = SharedCall(slow)
    results: dict[int, int] = {}

    def ask(number: int) -> None:
        results[number] = shared("default", number, 5)

    def waiting() -> int:
        """The number of callers that wait for the next call."""
        attempt = shared._next
        return len(attempt.done._cond._waiters) if attempt else 0

    first, *others = threads = [threading.Thread(target=ask, args=[n]) for n in range(5)]
    first.start()
    wait_until(lambda: calls)
    for thread in others:
        thread.start()
    wait_until(lambda: waiting() == len(others))
    go.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 2
    assert results.pop(0) == calls[0] == 0
    assert set(results.values()) == {calls[1]}
    assert shared("default", 7, 5) == 7  # the next caller starts a new call


def test_hanging_call_is_bounded_by_the_deadline() -> None:
    release = threading.Event()

    def hang(alias: str, number: int, seconds: float) -> int:
        release.wait(20)
        return number

    shared = SharedCall(hang)
    ends: list[float] = []

    def ask(number: int) -> None:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            shared("default", number, 0.3)
        ends.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(ends) < 3  # the calls hang for 20 seconds; a busy machine wakes threads late
    assert len(scrape_threads()) <= MAX_ABANDONED_THREADS
    release.set()
    wait_until(lambda: not scrape_threads())
    assert shared("default", 42, 5) == 42


def test_number_of_abandoned_calls_is_limited() -> None:
    release = threading.Event()
    calls: list[int] = []

    def hang(alias: str, number: int, seconds: float) -> int:
        calls.append(number)
        release.wait(20)
        return number

    shared = SharedCall(hang)
    try:
        for number in range(MAX_ABANDONED_THREADS + 2):
            with pytest.raises(DeadlineExceeded):
                shared("default", number, 0.05)
        assert len(calls) == MAX_ABANDONED_THREADS
    finally:
        release.set()
    wait_until(lambda: not scrape_threads())
    assert shared("default", 42, 5) == 42


def test_error_of_the_call_is_raised() -> None:
    def fail(alias: str, number: int, seconds: float) -> int:
        raise DatabaseError("no")

    with pytest.raises(DatabaseError, match="no"):
        SharedCall(fail)("default", 1, 5)
