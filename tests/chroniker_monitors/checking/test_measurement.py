"""One measurement: its value, or the error instead of it."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from django.db import OperationalError

from chroniker_monitors.checking.measurement import Measurement, measure, measure_kind
from chroniker_monitors.enums import Severity
from chroniker_monitors.exceptions import ProbeError
from chroniker_monitors.probes import Reading
from chroniker_monitors.series import SeriesValue
from chroniker_monitors.thresholds import Thresholds
from tests.support.measurement import CallableProbe, measure_call


def raising(error: BaseException) -> Callable[[], Any]:
    def call() -> None:
        raise error

    return call


def test_value_comes_with_message_unit_and_latency() -> None:
    found = measure_call(lambda: Reading(3, "all\nis  well"))
    assert not found.error
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
    assert found.value is None and found.error
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
    assert not measure_kind("disk", {}, timeout=20).error


def test_value_is_compared_with_the_thresholds() -> None:
    found = [
        measure(CallableProbe(call=lambda v=value: Reading(v)), Thresholds(">", 80, 90), timeout=20)
        for value in (80, 81, 91)
    ]
    assert [each.severity for each in found] == [Severity.OK, Severity.WARNING, Severity.CRITICAL]
    assert not any(each.error for each in found)


@pytest.mark.parametrize(
    ("thresholds", "text"),
    [
        (Thresholds("~", 80, 90), "Unknown operator '~'; save the monitor again."),
        (Thresholds(">", math.nan, 90), "A threshold is not a number (NaN); save the monitor"),
    ],
)
def test_thresholds_that_became_invalid_are_an_error(thresholds: Thresholds, text: str) -> None:
    found = measure(CallableProbe(call=lambda: Reading(1)), thresholds, timeout=20)
    assert text in found.error
    assert (found.severity, found.value) == (Severity.UNKNOWN, None)
    assert found.latency_seconds is not None


def test_unit_is_the_first_that_is_given() -> None:
    def unit(reading: str | None, monitor: str) -> str:
        probe = CallableProbe(call=lambda: Reading(1, unit=reading))
        return measure(probe, timeout=20, unit=monitor).unit

    assert [unit(None, ""), unit("bytes", ""), unit("bytes", "kB")] == ["deeds", "bytes", "kB"]
    assert unit("", "") == ""


def test_failed_measurement_has_its_latency() -> None:
    latency = measure_call(raising(ProbeError("no"))).latency_seconds
    assert latency is not None and 0 <= latency < 20


def test_probe_that_is_too_slow_is_interrupted() -> None:
    found = measure_call(lambda: time.sleep(20), timeout=0.05)
    assert found.error == "No result within 0.05 s."
    assert found.latency_seconds is not None and found.latency_seconds < 10


def test_error_at_the_time_limit_is_a_timeout_with_its_reason() -> None:
    """A library that is interrupted by the limit raises its own error."""

    def call() -> None:
        try:
            time.sleep(20)
        except BaseException:
            raise ProbeError("The connection was interrupted.") from None

    found = measure_call(call, timeout=0.05)
    assert found.error == "No result within 0.05 s. (The connection was interrupted.)"


def test_value_that_came_too_late_is_an_error() -> None:
    """A probe may catch everything, or run where no alarm can interrupt it."""

    def call() -> Reading:
        started = time.monotonic()
        while time.monotonic() - started < 0.12:
            with contextlib.suppress(BaseException):
                time.sleep(0.01)
        return Reading(1)

    found = measure_call(call, timeout=0.05)
    assert found.error.startswith("No result within 0.05 s; it took 0.1 s.")
    assert found.value is None


@pytest.mark.parametrize("timeout", [0, -1])
def test_time_limit_is_never_zero(timeout: float) -> None:
    assert "No result within 0.001 s" in measure_call(lambda: time.sleep(20), timeout).error


@pytest.mark.parametrize(
    ("measurement", "summary"),
    [
        (Measurement(Severity.OK, 5, "all is well", "V"), "all is well"),
        (Measurement(Severity.OK, 5.25, "", "V"), "5.25 V"),
        (Measurement(Severity.OK, 5, "", ""), "5"),
        (Measurement(Severity.CRITICAL, 0, "", "V"), "0 V"),
        (Measurement(Severity.UNKNOWN, None, "a message", error="refused"), "refused"),
        (Measurement(Severity.UNKNOWN), ""),
    ],
)
def test_summary_is_the_error_the_message_or_the_value(
    measurement: Measurement, summary: str
) -> None:
    assert measurement.summary == summary


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_sanitized_measurement_has_a_finite_value_or_an_error(value: float) -> None:
    found = Measurement(Severity.OK, value, "a\0b\ud800").sanitized()
    assert (found.severity, found.value) == (Severity.UNKNOWN, None)
    assert (found.message, found.error) == (
        "ab?", f"The probe returned {value}, which is not a finite number.",
    )  # fmt: skip
    assert Measurement(Severity.OK, value, error="a\0b").sanitized().error == "ab"
    fine = Measurement(Severity.WARNING, 5.0, "m", "V", 0.1)
    assert fine.sanitized() == fine


def test_measurement_of_groups_survives_json() -> None:
    series = (SeriesValue("eu", 95.0, Severity.CRITICAL), SeriesValue("us", None, Severity.UNKNOWN))
    for found in (Measurement(Severity.CRITICAL, 95.0, series=series, more_series=3),
                  Measurement(Severity.OK, 1.0, "calm", "V", 0.5),
                  Measurement(Severity.UNKNOWN, error="refused")):  # fmt: skip
        assert Measurement.from_dict(json.loads(json.dumps(asdict(found)))) == found


def test_groups_are_evaluated_one_by_one() -> None:
    reading = Reading(0, unit="rows", series=(("eu", 95), (None, math.nan), ("us", 50), ("us", 7)))
    found = measure(CallableProbe(call=lambda: reading), Thresholds(">", 80, 90), timeout=20)
    assert found.series == (
        SeriesValue("eu", 95.0, Severity.CRITICAL), SeriesValue("(none)", None, Severity.UNKNOWN),
        SeriesValue("us", 50.0), SeriesValue("us (2)", 7.0),
    )  # fmt: skip
    assert (found.severity, found.value, found.unit) == (Severity.CRITICAL, 95, "rows")
    assert found.message == "eu, the worst of 4 groups"


def test_secret_in_the_name_of_a_group_is_masked(settings: Any) -> None:
    settings.BROKER_PASSWORD = "hunter2hunter2"
    reading = Reading(0, series=(("me:hunter2hunter2", 1),))
    found = measure(CallableProbe(call=lambda: reading), timeout=20)
    assert found.series is not None
    assert "hunter2" not in found.series[0].name + found.message


def test_threshold_that_is_not_a_number_makes_groups_unknown() -> None:
    reading = Reading(0, series=(("eu", 95),))
    found = measure(CallableProbe(call=lambda: reading), Thresholds(">", math.nan), timeout=20)
    assert (found.severity, found.series) == (Severity.UNKNOWN, None)


@pytest.mark.parametrize("series", [None, (), (SeriesValue("eu", 95.0, Severity.CRITICAL),)])
def test_measurement_travels_as_json(series: tuple[SeriesValue, ...] | None) -> None:
    measured = Measurement(Severity.CRITICAL, 95.0, "hot", "V", series=series)
    assert Measurement.from_dict(json.loads(json.dumps(measured.dump()))) == measured
