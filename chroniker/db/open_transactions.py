"""Open transactions, in which nothing may be forked."""

from __future__ import annotations

from django.db import connections

from chroniker.exceptions import OpenTransaction


def refuse_open_transactions() -> None:
    """Raise OpenTransaction if a transaction is open in this thread, on any database.

    Before a fork all connections are closed, so the transaction would be lost; and what it has
    locked would stop the scheduler, which uses connections of its own.
    """
    for connection in connections.all(initialized_only=True):
        manual = connection.connection is not None and not connection.autocommit
        if connection.in_atomic_block or manual:
            raise OpenTransaction(connection.alias)
