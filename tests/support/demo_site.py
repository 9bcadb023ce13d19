"""The demo site as a context of a test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.site import DemoSite


@contextmanager
def run_demo_site(directory: Path, port: int = 0) -> Iterator[DemoSite]:
    """A demo site; its processes end with the block.

    The site ignores SIGINT and SIGTERM at its end; afterwards this process handles them as before.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    try:
        with DemoSite(directory, port) as site:
            yield site
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
