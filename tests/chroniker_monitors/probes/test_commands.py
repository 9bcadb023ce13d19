"""Management commands that report a value or write to stderr."""

from __future__ import annotations

import logging
import math
import os
import sys
from typing import Any

import pytest
from django.test import override_settings

from chroniker_monitors.checking.measurement import measure_kind
from chroniker_monitors.probes.reported_readings import collect_readings, report
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)

# --- report ---------------------------------------------------------------------------------


def test_command_reports_a_value_and_a_message() -> None:
    found = measure_value("command", command="report", args="41.5 --message 'all is well'")
    assert (found.value, found.message) == (41.5, "all is well")


def test_last_report_counts_even_from_a_thread() -> None:
    assert measured_number("command", command="report", args="1 2 3") == 3
    assert measured_number("command", command="report", args="1 2 --thread") == 2


def test_command_that_reports_nothing_is_unknown() -> None:
    assert "must call Monitor.report" in measure_error("command", command="noop")


@pytest.mark.parametrize("value", ["nan", "inf", "text"])
def test_report_that_is_not_a_number_is_unknown(value: str) -> None:
    assert "takes a" in measure_error("command", command="report", args=value)


def test_outside_a_monitor_a_report_does_nothing() -> None:
    report(5, "this is not reported")
    report("not even a number")  # type: ignore[arg-type]


def test_reports_are_collected_by_the_innermost_monitor() -> None:
    with collect_readings() as outer:
        with collect_readings() as inner:
            report(1)
        report(2, "outer")
        for wrong in (True, None, "5", math.nan, [], 10**400):
            with pytest.raises(ValueError, match="number"):
                report(wrong)  # type: ignore[arg-type]
    assert [found.value for found in inner] == [1]
    assert [(found.value, found.message) for found in outer] == [(2, "outer")]


# --- stderr ---------------------------------------------------------------------------------


def test_output_on_stderr_gives_one() -> None:
    found = measure_value(
        "command", command="act", args="write_stderr 'stock is low'", mode="stderr"
    )
    assert (found.value, found.message) == (1, "stock is low")
    found = measure_value("command", command="act", args="say fine", mode="stderr")
    assert (found.value, found.message) == (0, "act wrote nothing to stderr")


def test_stderr_of_child_programs_counts(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr
    found = measure_value("command", command="warn_below", args="'from below'", mode="stderr")
    assert (found.value, found.message) == (1, "from below")
    os.write(2, b"as before")
    assert capfd.readouterr().err == "as before"
    assert sys.stderr is before


def test_logging_is_not_output_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """As in a job: log records have their own stream."""
    root = logging.getLogger()
    console = logging.StreamHandler(sys.stderr)
    before = root.level
    root.addHandler(console)
    root.setLevel("INFO")
    try:
        found = measure_value("command", command="act", args="log 'all is well'", mode="stderr")
        assert console.stream is sys.stderr
    finally:
        root.removeHandler(console)
        root.setLevel(before)
    assert found.value == 0
    assert "all is well" in capfd.readouterr().err


def test_long_stderr_gives_a_bounded_message() -> None:
    found = measure_value(
        "command", command="act", args=f"write_stderr {'x' * 10_000}", mode="stderr"
    )
    assert found.value == 1 and len(found.message) == 500


# --- failures -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["report", "stderr"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("fail 'no stock'", "ValueError: no stock"),
        ("refuse 'no such shop'", "CommandError: no such shop"),
        ("exit 3", "exit code 3"),
        ("no_such_deed", "AttributeError"),
        ("--no-such-option", "CommandError: Error: "),
    ],
)
def test_command_that_fails_is_unknown(mode: str, args: str, said: str) -> None:
    assert said in measure_error("command", command="act", args=args, mode=mode)


def test_endless_command_is_unknown_in_time() -> None:
    for mode in ("report", "stderr"):
        said = measure_error("command", timeout=0.3, command="act", args="sleep 300", mode=mode)
        assert said.startswith("No result within 0.3 s.")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no_such_command", "There is no management command"), ("shell", "may not run 'shell'"),
        ("flush", "may not run 'flush'"), ("migrate", "may not run"), ("cron", "may not run"),
        ("check_monitor", "cannot run check_monitor"), ("", "required"),
    ],
)  # fmt: skip
def test_only_allowed_commands_run(command: str, said: str) -> None:
    assert said in build_errors("command", command=command)["command"]


def test_invalid_command_arguments_are_rejected() -> None:
    assert "Close each quote" in build_errors("command", command="noop", args="'a")["args"]


def test_command_that_became_disallowed_does_not_run(settings: Any) -> None:
    params = {"command": "report", "args": "5"}
    assert measure_kind("command", params, timeout=20).value == 5
    with override_settings(CHRONIKER_ALLOWED_COMMANDS=["noop"]):
        assert "may not run 'report'" in measure_kind("command", params, timeout=5).error
