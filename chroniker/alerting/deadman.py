"""The dead man's switch: a URL that is fetched once a tick (``CHRONIKER_DEADMAN_URL``).

A service elsewhere raises the alarm when it has not been fetched for a while: because the machine
is gone, cron is, or the database, and with them whatever could have told of it from inside. It is
fetched by a thread, because neither looking up a name nor a server that sends a byte a second keeps
to a timeout. A fork of a process with threads may inherit a lock that nobody will release, so the
tick forks while the thread is :attr:`~LifeSign.talking` nothing that it can fork later.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from chroniker import __version__
from chroniker.conf import conf, runtime_dir

logger = logging.getLogger(__name__)

_MOST_BYTES = 1024
"""What is read of the answer, so that the server can end it in peace."""


_LINGER_SECONDS = 5.0
"""How much longer than its time a thread may take whose sockets keep to it."""


class LifeSign:
    """Fetches the URL, one at a time; :meth:`wait` before the process ends."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._give_up_at = 0.0

    def send(self) -> LifeSign:
        """Begin to fetch, unless the fetch before is still at it."""
        url, seconds = conf.DEADMAN_URL, conf.DEADMAN_TIMEOUT_SECONDS
        if self._thread is not None and self._thread.is_alive():
            if time.monotonic() >= self._give_up_at:
                _note_failure(url, f"no answer within {seconds:g} s")
            return self
        self._give_up_at = time.monotonic() + seconds
        self._thread = threading.Thread(
            target=_fetch, args=(url, seconds), name="chroniker-heartbeat-url", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # no more threads, or the interpreter is about to end
            self._thread = None
            _note_failure(url, str(error))
        return self

    @property
    def talking(self) -> bool:
        """Whether the thread lives, and is going to end soon."""
        if self._thread is None or not self._thread.is_alive():
            return False
        return time.monotonic() < self._give_up_at + _LINGER_SECONDS

    def wait(self) -> None:
        """Until it has been fetched, or its time is up."""
        if self._thread is None:
            return
        self._thread.join(max(0.0, self._give_up_at - time.monotonic()))
        if self._thread.is_alive():
            url, seconds = conf.DEADMAN_URL, conf.DEADMAN_TIMEOUT_SECONDS
            _note_failure(url, f"no answer within {seconds:g} s")


def _fetch(url: str, seconds: float) -> None:
    from urllib import request

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler,
        request.HTTPRedirectHandler, request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())  # and none that reads files or speaks FTP
    opener.addheaders = [("User-Agent", f"chroniker/{__version__}")]
    try:
        answer = opener.open(url, timeout=seconds)
        if answer is None:
            raise ValueError("neither http nor https")
        with answer:
            answer.read(_MOST_BYTES)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        _note_failure(url, reason.replace(url, "…"))
    else:
        _note_success(url)


def _note_failure(url: str, reason: str) -> None:
    """Say so once an outage: ticks are many, and cron mails what they say."""
    try:
        with contextlib.suppress(FileExistsError):
            _marker(url).touch(mode=0o600, exist_ok=False)
            logger.warning("The dead man's switch at %s was not reached: %s", _place(url), reason)
    except OSError as error:  # no place for the note: better twice than never
        logger.warning(
            "The dead man's switch at %s was not reached: %s (%s)", _place(url), reason, error
        )


def _note_success(url: str) -> None:
    with contextlib.suppress(OSError):
        _marker(url).unlink()
        logger.info("The dead man's switch at %s is reached again", _place(url))


def _marker(url: str) -> Path:
    """The file that is there as long as an outage of ``url`` goes on."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return Path(runtime_dir()) / f"heartbeat-url-{digest[:16]}.down"


def _place(url: str) -> str:
    """The server alone: who has the whole URL can keep the switch from being noticed."""
    try:
        return urlsplit(url).hostname or "nowhere"
    except ValueError:
        return "nowhere"
