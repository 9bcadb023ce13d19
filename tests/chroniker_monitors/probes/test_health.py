"""Checks of django-health-check by their dotted path."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import pytest
from health_check.base import HealthCheck
from health_check.exceptions import (
    HealthCheckException,
    ServiceReturnedUnexpectedResult,
    ServiceUnavailable,
    ServiceWarning,
)

from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)

HERE = __name__


@pytest.fixture(autouse=True)
def _allow_checks_here(settings: Any) -> None:
    settings.CHRONIKER_MONITORS_HEALTH_CHECKS = [HERE]


@dataclasses.dataclass
class SimpleCheck(HealthCheck):
    outcome: str = ""

    def run(self) -> None:  # type: ignore[override]
        raising: dict[str, Exception] = {
            "warning": ServiceWarning("nearly full"),
            "down": ServiceUnavailable("no answer"),
            "odd": ServiceReturnedUnexpectedResult("got 5"),
            "unknown": HealthCheckException("cannot tell"),
            "bug": ZeroDivisionError("division by zero"),
        }
        if self.outcome in raising:
            raise raising[self.outcome]
        if self.outcome == "slow":
            time.sleep(300)


@dataclasses.dataclass
class SlowCheck(HealthCheck):
    async def run(self) -> None:
        await asyncio.sleep(300)


class NotACheck:
    pass


@pytest.mark.parametrize(
    ("outcome", "value", "message"),
    [
        ("", 0, "healthy"),
        ("warning", 1, "Warning: nearly full"),
        ("down", 2, "Unavailable: no answer"),
        ("odd", 2, "Unexpected Result: got 5"),
    ],
)
def test_health_check_result_is_a_value(outcome: str, value: int, message: str) -> None:
    found = measure_value(
        "health", check=f"{HERE}.SimpleCheck", options=f'{{"outcome": "{outcome}"}}'
    )
    assert (found.value, found.message) == (value, message)


@pytest.mark.parametrize(("outcome", "said"), [("unknown", "cannot tell"), ("bug", "division")])
def test_broken_health_check_is_unknown(outcome: str, said: str) -> None:
    params = {"check": f"{HERE}.SimpleCheck", "options": f'{{"outcome": "{outcome}"}}'}
    assert said in measure_error("health", **params)


def test_endless_health_check_is_unknown_in_time() -> None:
    for check, options in (("SimpleCheck", '{"outcome": "slow"}'), ("SlowCheck", "")):
        said = measure_error("health", timeout=0.5, check=f"{HERE}.{check}", options=options)
        assert said.startswith("No result within 0.5 s.")


def test_shipped_health_check_runs() -> None:
    assert measured_number("health", check="health_check.checks.Cache") == 0
    said = measure_value(
        "health", check="health_check.checks.Cache", options='{"alias": "default"}'
    )
    assert said.message == "healthy"


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("health_check.checks.NoSuch", "cannot be imported"),
        ("health_check.no_such.Check", "cannot be imported"),
        ("health_check.base.HealthCheckResult", "not a subclass"),
        (f"{HERE}.NotACheck", "not a subclass"),
        ("os.system", "not in health_check"),
        ("antigravity.fly", "not in health_check"),
        ("Cache", "not in health_check"),
        ("..x", "not in health_check"),
        ("healthy_check.Check", "not in health_check"),
    ],
)
def test_path_that_is_not_a_health_check_is_rejected(check: str, said: str) -> None:
    assert said in build_errors("health", check=check)["check"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"other": 1}', "has no option other"),
        ('{"run": 1}', "has no option run"),
    ],
)
def test_unknown_health_check_options_are_rejected(options: str, said: str) -> None:
    assert said in build_errors("health", check=f"{HERE}.SimpleCheck", options=options)["options"]
