"""Readings that a command reports to the monitor that runs it.

They are kept in a list of the process, not in a context variable: a command may report from its
own threads, which do not inherit the context of the monitor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import SupportsFloat

from .base import Reading

_collectors: list[list[Reading]] = []


def report(value: SupportsFloat, message: str = "") -> None:
    """Report a value to the monitor that runs this command. The last one counts.

    Does nothing outside a monitor. Raises ValueError if the value is not a finite number.
    """
    if not _collectors:
        return
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"Monitor.report() takes a number, not {value!r}.")
    try:
        number = float(value)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"Monitor.report() takes a number, not {value!r}.") from error
    if not math.isfinite(number):
        raise ValueError(f"Monitor.report() takes a finite number, not {value!r}.")
    _collectors[-1].append(Reading(number, str(message)))


@contextmanager
def collect_readings() -> Iterator[list[Reading]]:
    """Collect what is reported inside the block, in order."""
    readings: list[Reading] = []
    _collectors.append(readings)
    try:
        yield readings
    finally:
        _collectors.remove(readings)
