"""One measurement: its value, or the error instead of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from chroniker_monitors.checking.measurement import measure_kind
from chroniker_monitors.exceptions import ProbeError
from chroniker_monitors.probes import Reading
from tests.support.measurement import measure_call


def raising(error: BaseException) -> Callable[[], Any]:
    def call() -> None:
        raise error

    return call


def test_value_comes_with_message_unit_and_latency() -> None:
    found = measure_call(lambda: Reading(3, "all\nis  well"))
    assert found.has_value
    assert (found.value, found.message, found.unit, found.error) == (
        3.0,
        "all is well",
        "deeds",
        "",
    )
    assert isinstance(found.value, float)
    assert 0 <= found.latency_seconds < 20
    assert measure_call(lambda: Reading(3, unit="bytes")).unit == "bytes"


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, None, True, "5", 1 + 2j, [1], 10**400]
)
def test_value_that_is_not_finite_is_an_error(value: Any) -> None:
    found = measure_call(lambda: Reading(value))
    assert found.value is None and not found.has_value
    assert found.error


@pytest.mark.parametrize("returned", [None, 5, {"value": 5}])
def test_result_that_is_not_a_reading_is_an_error(returned: Any) -> None:
    assert "instead of a Reading" in measure_call(lambda: returned).error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ProbeError("Turn it on."), "Turn it on."),
        (ConnectionRefusedError(111, "refused"), "Connection refused. Nothing listens there."),
        (
            PermissionError(13, "denied", "/root/x"),
            "Permission denied for the user who runs the jobs: /root/x",
        ),
        (FileNotFoundError(2, "gone", "/tmp/x"), "No such file or directory: /tmp/x"),
        (OSError(28, "No space left on device"), "No space left on device."),
        (
            ModuleNotFoundError("No module named 'x'"),
            "A module cannot be imported: No module named 'x'.",
        ),
        (OperationalError("no such table: a\nLINE 1"), "Database error: no such table: a"),
        (OperationalError(1146, "Table 'x' is not"), "Table 'x' is not (1146)"),
        (SystemExit(3), "The probe called sys.exit (exit code 3)."),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (KeyError(), "KeyError"),
        (RecursionError("deep"), "RecursionError: deep"),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
def test_every_error_is_a_message(error: BaseException, said: str) -> None:
    found = measure_call(raising(error))
    assert found.value is None
    assert said in found.error


def test_keyboard_interrupt_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        measure_call(raising(KeyboardInterrupt()))


def test_error_is_one_short_line_that_databases_accept() -> None:
    found = measure_call(raising(ProbeError("a\0b\x1b[31m\r\n" + "ü\ud800" * 1000)))
    assert len(found.error) == 500 and found.error.endswith("…")
    assert found.error.startswith("ab[31m ü")
    found.error.encode()


def test_secrets_are_masked(settings: Any) -> None:
    settings.SHOP_API_TOKEN = "correct-horse-battery"
    found = measure_call(lambda: Reading(1, "got correct-horse-battery and Bearer staple99"),
                  phrase="X-Auth: Bearer staple99")  # fmt: skip
    assert "horse" not in found.message and "staple99" not in found.message
    found = measure_call(raising(ProbeError("refused correct-horse-battery")))
    assert "horse" not in found.error


def test_stored_parameters_that_became_invalid_are_an_error() -> None:
    assert "no kind of monitor 'gone'" in measure_kind("gone", {}, timeout=1).error
    assert "path" in measure_kind("disk", {"path": "relative"}, timeout=1).error
    assert measure_kind("disk", {}, timeout=20).has_value
