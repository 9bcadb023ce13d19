"""Jitter: spread starts that are due at the same moment."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from . import local_time

if TYPE_CHECKING:
    from datetime import datetime

_MICROSECOND = timedelta(microseconds=1)


def jitter(key: str, slot: datetime, seconds: int) -> timedelta:
    """Return how long to wait after `slot`: whole seconds, from 0 to `seconds`.

    The same key and slot always give the same answer, in every process and on every host.
    """
    local_time.to_utc_seconds(slot)  # raises ValueError for a naive datetime
    if seconds <= 0:
        return timedelta()
    text = f"{key}\n{(slot - local_time.EPOCH) // _MICROSECOND}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return timedelta(seconds=int.from_bytes(digest[:8]) % (seconds + 1))
