"""A till of the bookshop: a program that knows nothing of Django, and says that it is alive.

    python till.py URL SECONDS

It fetches the address of its heartbeat every so often, as a cron job elsewhere would do with curl.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from urllib.request import urlopen


def main(url: str, seconds: float) -> None:
    """Until somebody ends it. That the site is not there is no reason to stop selling books."""
    while True:
        with suppress(OSError), urlopen(url, b"sold some books", timeout=10):
            pass
        time.sleep(seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
