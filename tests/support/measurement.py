"""Short functions that measure a probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from chroniker_monitors.checking.measurement import Measurement, measure
from chroniker_monitors.exceptions import ParamsInvalid
from chroniker_monitors.probes import BaseProbe, build_probe, param

PROBE_TIMEOUT_SECONDS = 20.0
"""The time limit of probes that answer at once, on a machine that has other things to do."""


def measure_value(kind: str, timeout: float = PROBE_TIMEOUT_SECONDS, **params: Any) -> Measurement:
    """A measurement that must have a value."""
    found = measure(build_probe(kind, params), timeout=timeout)
    assert found.error == "" and found.value is not None, found
    return found


def measured_number(kind: str, timeout: float = PROBE_TIMEOUT_SECONDS, **params: Any) -> float:
    value = measure_value(kind, timeout, **params).value
    assert value is not None
    return value


def measure_error(kind: str, timeout: float = PROBE_TIMEOUT_SECONDS, **params: Any) -> str:
    """The error of a measurement that must have no value."""
    found = measure(build_probe(kind, params), timeout=timeout)
    assert found.value is None and found.error, found
    assert "\n" not in found.error and "Traceback" not in found.error
    return found.error


def build_errors(kind: str, **params: Any) -> dict[str, str]:
    """The validation errors by parameter."""
    with pytest.raises(ParamsInvalid) as caught:
        build_probe(kind, params)
    return {name: " ".join(said) for name, said in caught.value.errors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallableProbe(BaseProbe):
    """A probe that calls a function of the test."""

    kind: ClassVar[str] = "doing"
    unit: ClassVar[str] = "deeds"
    phrase: str = param("", label="Phrase", secret=True)
    call: Any = None

    def run(self) -> Any:
        return self.call()


def measure_call(call: Callable[[], Any], timeout: float = 20, **params: str) -> Measurement:
    return measure(CallableProbe(call=call, **params), timeout=timeout)
