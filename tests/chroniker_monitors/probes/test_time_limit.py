"""A measurement always comes back: a value in time, or a sentence that says why not."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from django.db import OperationalError

from chroniker_monitors.checking.measurement import Measurement, measure, measure_kind
from chroniker_monitors.exceptions import ProbeError
from chroniker_monitors.probes import (
    BaseProbe,
    Reading,
    call_with_timeout,
    param,
    remaining_seconds,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableProbe(BaseProbe):
    """Does what a test wants."""

    kind: ClassVar[str] = "doing"
    unit: ClassVar[str] = "deeds"
    phrase: str = param("", label="Phrase", secret=True)
    call: Any = None

    def run(self) -> Any:
        return self.call()


def make_probe(call: Callable[[], Any], timeout: float = 20, **params: str) -> Measurement:
    return measure(CallableProbe(call=call, **params), timeout=timeout)


def raising(error: BaseException) -> Callable[[], Any]:
    def call() -> None:
        raise error

    return call


def test_a_value_comes_with_message_unit_and_latency() -> None:
    found = make_probe(lambda: Reading(3, "all\nis  well"))
    assert found.has_value
    assert (found.value, found.message, found.unit, found.error) == (
        3.0,
        "all is well",
        "deeds",
        "",
    )
    assert isinstance(found.value, float)
    assert 0 <= found.latency_seconds < 20
    assert make_probe(lambda: Reading(3, unit="bytes")).unit == "bytes"


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, None, True, "5", 1 + 2j, [1], 10**400]
)
def test_what_is_no_finite_number_is_an_error(value: Any) -> None:
    found = make_probe(lambda: Reading(value))
    assert found.value is None and not found.has_value
    assert found.error


@pytest.mark.parametrize("returned", [None, 5, {"value": 5}])
def test_what_is_no_reading_is_an_error(returned: Any) -> None:
    assert "instead of a Reading" in make_probe(lambda: returned).error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProbeError("Turn it on."), "Turn it on."),
        (ConnectionRefusedError(111, "refused"), "Connection refused; nothing listens there."),
        (PermissionError(13, "denied", "/root/x"), "no permission for it: /root/x"),
        (FileNotFoundError(2, "gone", "/tmp/x"), "no such file or directory: /tmp/x"),
        (OSError(28, "No space left on device"), "No space left on device."),
        (ModuleNotFoundError("No module named 'x'"), "A module is missing: No module named 'x'."),
        (OperationalError("no such table: a\nLINE 1"), "The database refused: no such table: a"),
        (OperationalError(1146, "Table 'x' is not"), "Table 'x' is not (1146)"),
        (SystemExit(3), "It ended the process (exit code 3)."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError(), "KeyError"),
        (RecursionError("deep"), "RecursionError: deep"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_every_error_becomes_a_sentence(error: BaseException, said: str) -> None:
    found = make_probe(raising(error))
    assert found.value is None
    assert said in found.error


def test_keyboard_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        make_probe(raising(KeyboardInterrupt()))


def test_an_error_is_one_line_of_bounded_length_that_databases_take() -> None:
    found = make_probe(raising(ProbeError("a\0b\x1b[31m\r\n" + "ü\ud800" * 1000)))
    assert len(found.error) == 500 and found.error.endswith("…")
    assert found.error.startswith("ab[31m ü")
    found.error.encode()


def test_secrets_are_masked(settings: Any) -> None:
    settings.SHOP_API_TOKEN = "correct-horse-battery"
    found = make_probe(lambda: Reading(1, "got correct-horse-battery and Bearer staple99"),
                  phrase="X-Auth: Bearer staple99")  # fmt: skip
    assert "horse" not in found.message and "staple99" not in found.message
    found = make_probe(raising(ProbeError("refused correct-horse-battery")))
    assert "horse" not in found.error


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
def test_the_time_limit_ends_what_looks_at_no_clock(call: Callable[[], Any]) -> None:
    began = time.monotonic()
    found = make_probe(call, timeout=0.2)
    assert found.value is None
    assert found.error == "No result within 0.2 s."
    assert 0.2 <= found.latency_seconds <= time.monotonic() - began < 20


def test_the_time_limit_ends_a_call_that_never_comes_back() -> None:
    release = threading.Event()
    found = make_probe(lambda: call_with_timeout(release.wait), timeout=0.2)
    release.set()
    assert found.error.startswith("No result within 0.2 s.")


def test_probes_receive_the_remaining_time() -> None:
    assert 0 < make_probe(lambda: Reading(remaining_seconds()), timeout=7).value <= 7  # type: ignore[operator]
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
        assert make_probe(lambda: Reading(1), timeout=0.5).has_value
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 200 < left <= 300
        os.kill(os.getpid(), signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        signal.signal(signal.SIGALRM, handler)


def test_measuring_within_a_measurement_keeps_both_limits() -> None:
    def outer() -> Reading:
        inner = make_probe(sleep_forever, timeout=0.1)
        assert inner.error == "No result within 0.1 s."
        sleep_forever()
        raise AssertionError

    assert make_probe(outer, timeout=0.4).error == "No result within 0.4 s."


def test_in_a_thread_there_is_no_alarm_and_a_late_value_is_none() -> None:
    found: list[Measurement] = []

    def late() -> Reading:
        while True:  # until its time is up, as probes that ship do
            try:
                time.sleep(min(remaining_seconds(), 0.02))
            except TimeoutError:
                break
        time.sleep(0.1)
        return Reading(1)

    thread = threading.Thread(target=lambda: found.append(make_probe(late, timeout=0.05)))
    thread.start()
    thread.join()
    assert found[0].value is None and found[0].error.startswith("No result within 0.05 s")


def test_what_is_stored_and_no_longer_valid_is_an_error_like_any_other() -> None:
    assert "no kind of monitor 'gone'" in measure_kind("gone", {}, timeout=1).error
    assert "path" in measure_kind("disk", {"path": "relative"}, timeout=1).error
    assert measure_kind("disk", {}, timeout=20).has_value
