"""Retries with exponential backoff while the database is not available."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import DatabaseError, InterfaceError

from chroniker.exceptions import DatabaseNotReady
from chroniker.logs import log_context

from .transactions import drop_connection, is_locked, is_missing_schema, is_outage, is_transient

logger = logging.getLogger(__name__)

_MAX_WAIT_SECONDS = 5.0


class Backoff:
    """Runs database actions, and waits longer after each consecutive failure."""

    def __init__(self) -> None:
        self._retry_at = 0.0
        self._failures = 0

    @property
    def waiting(self) -> bool:
        """Whether it is too early for the next attempt."""
        return time.monotonic() < self._retry_at

    def attempt(self, action: Callable[[], object], *, log: bool = True) -> Exception | None:
        """Run ``action`` now; return the error of the database if it failed. Raises other errors.

        ``log``: log the error; an outage is logged only when it begins.
        """
        try:
            action()
        except (DatabaseError, InterfaceError) as error:
            self._failures += 1
            wait = min(_MAX_WAIT_SECONDS, 0.1 * 2 ** min(self._failures, 10))
            self._retry_at = time.monotonic() + wait
            drop_connection()
            if log and not is_outage(error):
                logger.exception("The database rejected a statement", extra=log_context())
            elif log and self._failures == 1:
                logger.warning("Trying again later: %s", describe_error(error), extra=log_context())
            return error
        self._failures = 0
        return None


def describe_error(error: Exception) -> str:
    """Return one line: what is wrong with the database, and what to do."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if is_missing_schema(error):
        return f"The tables of Chroniker are missing or old; run `manage.py migrate`: {reason}"
    if is_locked(error):
        return f"Another transaction has held a lock for too long: {reason}"
    if is_transient(error):
        return f"Other transactions have changed the same rows again and again: {reason}"
    if is_outage(error):
        return f"The database cannot be reached: {reason}"
    return f"The database rejected a statement: {reason}"


@contextmanager
def readable_database_errors() -> Iterator[None]:
    """Raise DatabaseNotReady, with one line of text, for every error of the database."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        raise DatabaseNotReady(describe_error(error)) from error
