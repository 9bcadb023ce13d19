"""A till of the bookshop: a program without Django that reports that it is alive.

    python till.py URL SECONDS

It requests the ping URL of its heartbeat monitor at intervals, as a cron job would do with curl.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from urllib.request import urlopen


def main(url: str, seconds: float) -> None:
    """Ping until the process is stopped. An error of the site is ignored."""
    while True:
        with suppress(OSError), urlopen(url, b"sold some books", timeout=10):
            pass
        time.sleep(seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
