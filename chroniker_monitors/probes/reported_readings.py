"""What a command reports to the monitor that runs it.

A list of this process, not a context variable: a command may report from a thread of its own,
which would not see the context that the monitor was started in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import SupportsFloat

from .base import Reading

_collectors: list[list[Reading]] = []


def report(value: SupportsFloat, message: str = "") -> None:
    """Report a value to the monitor that runs this command; the last one counts.

    Nothing happens outside a monitor. Raises ValueError where the value is no finite number.
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
    """What is reported within the block, in order."""
    readings: list[Reading] = []
    _collectors.append(readings)
    try:
        yield readings
    finally:
        _collectors.remove(readings)
