"""Spread starts that are due at the same moment."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from chroniker.schedules import walltime

if TYPE_CHECKING:
    from datetime import datetime

_MICROSECOND = timedelta(microseconds=1)


def jitter(key: str, slot: datetime, seconds: int) -> timedelta:
    """Return how long to wait after `slot`: whole seconds, from 0 to `seconds`.

    The same key and slot always give the same answer, in every process and on every host.
    """
    walltime.seconds(slot)  # refuses a naive one
    if seconds <= 0:
        return timedelta()
    text = f"{key}\n{(slot - walltime.EPOCH) // _MICROSECOND}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return timedelta(seconds=int.from_bytes(digest[:8]) % (seconds + 1))
