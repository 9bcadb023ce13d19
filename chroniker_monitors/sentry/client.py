"""The SDK's client: whether there is one, its transport after a fork, its flush at exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from . import SETUP_PID

if TYPE_CHECKING:
    from sentry_sdk.client import BaseClient
    from sentry_sdk.transport import Transport

Mask = Callable[[str], str]
"""Returns a text with its secrets masked."""

FLUSH_SECONDS = 2.0
"""How long a process waits at exit for events and check-ins to be sent."""

_inherited_transports: list[Transport | None] = []
_registered_pids: set[int] = set()


def active_client() -> BaseClient | None:
    """Return the SDK's client if the site has set a DSN, else None."""
    get_client = getattr(sys.modules.get("sentry_sdk"), "get_client", None)
    client: BaseClient | None = get_client() if get_client else None
    return client if client is not None and client.is_active() and client.dsn else None


@lru_cache(maxsize=1)
def secrets_mask() -> Mask:
    """Return a mask for the site's secrets, including the ``repr`` of those in local variables."""
    from chroniker.masking import Masker, site_secrets

    secrets = site_secrets()
    return Masker(secrets | {repr(secret)[1:-1] for secret in secrets}).mask_text


def is_forked() -> bool:
    """Whether this process was forked after the SDK's client was created."""
    return os.getpid() != SETUP_PID


def renew_transport(client: BaseClient) -> None:
    """Give the client of a forked process its own transport.

    A fork inherits the queue and the locks of its parent, but not its threads. The parent sends
    what is in the queue, and a lock that a missing thread holds would never be released.
    """
    from sentry_sdk.transport import make_transport

    # Keep a reference: the destructor would close connections that belong to the parent.
    _inherited_transports.append(client.transport)
    client.transport = make_transport(client.options)


def flush_at_exit() -> None:
    """Flush when this process exits, before the SDK does so, which prints that it waits."""
    if os.getpid() not in _registered_pids:
        _registered_pids.add(os.getpid())
        atexit.register(flush)


def flush() -> None:
    """Wait at most :data:`FLUSH_SECONDS` until everything is sent; then give up."""
    seconds = FLUSH_SECONDS
    client = active_client()
    if client is None or client.transport is None:
        return
    started = time.monotonic()
    with contextlib.suppress(Exception):  # a job must not fail because of Sentry
        client.flush(timeout=seconds, callback=lambda pending, timeout: None)
        if time.monotonic() - started >= seconds:
            client.close(timeout=0, callback=lambda pending, timeout: None)
