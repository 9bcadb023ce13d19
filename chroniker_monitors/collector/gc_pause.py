"""Pause the cyclic garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector inside the block.

    Creating many objects triggers collections, which take a third of the time of a cold page.
    The rows and strings created here contain no reference cycles, so there is nothing to find.
    Garbage of other threads is collected after the block. Do not wait for anything inside it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
