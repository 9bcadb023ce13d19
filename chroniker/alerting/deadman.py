"""The dead man's switch: a URL that each tick pings (``CHRONIKER_DEADMAN_URL``).

A service elsewhere raises an alarm when the pings stop. They stop when the machine, cron or the
database is down, and then nothing inside the site can raise an alarm.

The URL is fetched in a thread, because neither a name lookup nor a server that sends one byte a
second respects a timeout. A fork of a process with threads may inherit a lock that is never
released, so the tick does not fork while :attr:`DeadManSwitch.pinging` is true.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from typing import Self
from urllib.parse import urlsplit

from chroniker.conf import conf
from chroniker.outages import Outage

logger = logging.getLogger(__name__)

_LINGER_SECONDS = 5.0
"""How much longer than the timeout a thread may take, although its sockets respect the timeout."""


class DeadManSwitch:
    """Pings the URL, once at a time; call :meth:`wait` before the process ends."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._give_up_at = 0.0

    def ping(self) -> Self:
        """Start to fetch the URL, unless the last ping is still in progress."""
        url, seconds = conf.DEADMAN_URL, conf.DEADMAN_TIMEOUT_SECONDS
        if self._thread is not None and self._thread.is_alive():
            if time.monotonic() >= self._give_up_at:
                _log_failure(url, f"no answer within {seconds:g} s")
            return self
        self._give_up_at = time.monotonic() + seconds
        self._thread = threading.Thread(
            target=_fetch, args=(url, seconds), name="chroniker-deadman", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # the limit of threads is reached, or Python is exiting
            self._thread = None
            _log_failure(url, str(error))
        return self

    @property
    def pinging(self) -> bool:
        """Whether the thread is alive and will end soon."""
        if self._thread is None or not self._thread.is_alive():
            return False
        return time.monotonic() < self._give_up_at + _LINGER_SECONDS

    def wait(self) -> None:
        """Wait until the URL is fetched or its timeout has passed."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, self._give_up_at - time.monotonic()))
        if self._thread.is_alive():
            url, seconds = conf.DEADMAN_URL, conf.DEADMAN_TIMEOUT_SECONDS
            _log_failure(url, f"no answer within {seconds:g} s")


def _fetch(url: str, seconds: float) -> None:
    try:
        from .http_client import send_request  # imported here, so that the tick does not wait

        send_request("GET", url, seconds=seconds, follow_redirects=True)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".replace(url, "…")
        _log_failure(url, reason)
    else:
        _log_success(url)


def _log_failure(url: str, reason: str) -> None:
    _outage(url).begin("The dead man's switch at %s was not reached: %s", _host(url), reason)


def _log_success(url: str) -> None:
    _outage(url).end("The dead man's switch at %s is reached again", _host(url))


def _outage(url: str) -> Outage:
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return Outage(logger, f"deadman-{digest[:16]}")


def _host(url: str) -> str:
    """Only the host: anyone who knows the whole URL can ping it and hide an outage."""
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"
