"""Whole transactions, tried again where the database says that trying again is right."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from chroniker.conf import conf

T = TypeVar("T")

_POSTGRESQL = {"40001", "40P01", "55P03"}
"""serialization_failure, deadlock_detected, lock_not_available."""
_MYSQL = {1020, 1205, 1213}
"""Record has changed since last read, lock wait timeout, deadlock."""


def is_transient(error: DatabaseError) -> bool:
    """Whether the same transaction may well succeed when it is run again at once."""
    cause: Any = error.__cause__ or error
    if getattr(cause, "sqlstate", None) in _POSTGRESQL:
        return True
    if connection.vendor == "mysql" and cause.args and cause.args[0] in _MYSQL:
        return True
    return connection.vendor == "sqlite" and "is locked" in str(cause)


def is_outage(error: BaseException) -> bool:
    """Whether the database is away, busy or full, rather than the statement wrong."""
    return isinstance(error, OperationalError | InterfaceError)


def run_transaction(action: Callable[[], T], *, attempts: int = 6) -> T:
    """Run ``action`` in a transaction of its own; again, as a whole, on a transient error.

    But not for longer than a sixth of a lease: who waits has leases to renew.

    After an outage the connection is closed, so that the next use opens a new one, and the error
    is raised: the transaction may or may not have been committed, and only the caller knows how
    to tell.
    """
    give_up_at = time.monotonic() + conf.LEASE_SECONDS / 6
    for attempt in range(1, attempts + 1):
        try:
            with transaction.atomic():
                return action()
        except DatabaseError as error:
            transient = is_transient(error)
            if is_outage(error) and not transient:
                drop_connection()
            if not transient or attempt == attempts or time.monotonic() > give_up_at:
                raise
        except InterfaceError:
            drop_connection()
            raise
        time.sleep(random.uniform(0.5, 1) * 0.01 * 2**attempt)  # noqa: S311
    raise AssertionError("unreachable")


def drop_connection() -> None:
    """Close the connection whatever state it is in."""
    try:
        connection.close()
    except (DatabaseError, InterfaceError):
        connection.connection = None
