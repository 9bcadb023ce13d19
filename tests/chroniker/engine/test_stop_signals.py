"""Requests to stop a scheduler, which arrive as signals."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from chroniker.engine.stop_signals import StopSignals


def test_nothing_is_stopped_without_a_signal() -> None:
    stop = StopSignals()
    with stop.handlers():
        assert not stop.received
        assert not stop.must_stop_runs(1e9)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_may_finish_within_the_grace_time_after_the_first_signal(
    settings: Any, number: signal.Signals
) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 30
    stop = StopSignals()
    with stop.handlers():
        os.kill(os.getpid(), number)
        assert stop.received
        assert not stop.must_stop_runs(100.0), "the grace time begins"
        assert not stop.must_stop_runs(129.9)
        assert stop.must_stop_runs(130.0)


def test_second_signal_stops_the_runs_at_once(settings: Any) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 30
    stop = StopSignals()
    with stop.handlers():
        os.kill(os.getpid(), signal.SIGTERM)
        assert not stop.must_stop_runs(100.0)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.must_stop_runs(100.0)


def test_without_grace_time_the_first_signal_stops_the_runs(settings: Any) -> None:
    settings.CHRONIKER_KILL_GRACE_SECONDS = 0
    stop = StopSignals()
    with stop.handlers():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.must_stop_runs(100.0)


def test_earlier_handlers_are_restored() -> None:
    def mine(*_: object) -> None: ...

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, mine) for number in numbers]
    try:
        with pytest.raises(RuntimeError), StopSignals().handlers():
            assert [signal.getsignal(number) for number in numbers] != [mine, mine]
            raise RuntimeError
        assert [signal.getsignal(number) for number in numbers] == [mine, mine]
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_scheduler_in_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def enter() -> None:
        with StopSignals().handlers():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
    assert signal.getsignal(signal.SIGTERM) == before
