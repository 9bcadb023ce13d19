"""The time limit of a measurement."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.probes import (
    Reading,
    call_with_timeout,
    remaining_seconds,
)
from tests.support.measurement import measure_call

# --- time -----------------------------------------------------------------------------------


def sleep_forever() -> None:
    time.sleep(300)


def spin_forever() -> None:
    while True:
        pass


def catch_everything() -> None:
    while True:
        with contextlib.suppress(Exception):
            time.sleep(300)


def catch_once() -> Reading:
    with contextlib.suppress(BaseException):
        time.sleep(300)
    time.sleep(300)
    return Reading(1)


@pytest.mark.parametrize("call", [sleep_forever, spin_forever, catch_everything, catch_once])
def test_time_limit_ends_a_busy_loop(call: Callable[[], Any]) -> None:
    began = time.monotonic()
    found = measure_call(call, timeout=0.2)
    assert found.value is None
    assert found.error == "No result within 0.2 s."
    assert 0.2 <= found.latency_seconds <= time.monotonic() - began < 20


def test_time_limit_ends_a_blocking_call() -> None:
    release = threading.Event()
    found = measure_call(lambda: call_with_timeout(release.wait), timeout=0.2)
    release.set()
    assert found.error.startswith("No result within 0.2 s.")


def test_probes_receive_the_remaining_time() -> None:
    assert 0 < measure_call(lambda: Reading(remaining_seconds()), timeout=7).value <= 7  # type: ignore[operator]
    assert remaining_seconds() == 10, "by themselves they have ten seconds"


def test_call_in_thread_returns_and_raises_unchanged() -> None:
    assert call_with_timeout(max, 3, 4) == 4
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 / 0)


def test_foreign_alarm_still_fires() -> None:
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda signum, frame: rung.append(signum))
    before = signal.setitimer(signal.ITIMER_REAL, 300)
    try:
        assert not measure_call(lambda: Reading(1), timeout=0.5).error
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 200 < left <= 300
        os.kill(os.getpid(), signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def test_nested_measurement_keeps_both_limits() -> None:
    def outer() -> Reading:
        inner = measure_call(sleep_forever, timeout=0.1)
        assert inner.error == "No result within 0.1 s."
        sleep_forever()
        raise AssertionError

    assert measure_call(outer, timeout=0.4).error == "No result within 0.4 s."


def test_late_value_in_a_thread_is_discarded() -> None:
    found: list[Measurement] = []

    def late() -> Reading:
        while True:  # until the time limit, as shipped probes do
            try:
                time.sleep(min(remaining_seconds(), 0.02))
            except TimeoutError:
                break
        time.sleep(0.1)
        return Reading(1)

    thread = threading.Thread(target=lambda: found.append(measure_call(late, timeout=0.05)))
    thread.start()
    thread.join()
    assert found[0].value is None and found[0].error.startswith("No result within 0.05 s")
