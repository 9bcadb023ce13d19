"""Garbage that is not looked for while there can be none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep Python from looking for garbage among all the objects of the process.

    It does so whenever many objects were made, which is a third of the time of a cold page; but
    here they are rows and texts, which refer to nothing. What another thread drops meanwhile is
    found a moment later. Not to be held while waiting for anybody.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
