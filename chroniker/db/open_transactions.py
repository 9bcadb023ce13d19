"""Open transactions, in which nothing may be forked."""

from __future__ import annotations

from django.db import connections

from chroniker.exceptions import OpenTransaction


def refuse_open_transactions(*, except_requests: bool = False) -> None:
    """Raise OpenTransaction if a transaction is open in this thread, on any database.

    Before a fork all connections are closed, so the transaction would be lost; and what it has
    locked would stop the scheduler, which uses connections of its own.

    ``except_requests``: not where Django opens one for each request (``ATOMIC_REQUESTS``).
    """
    for connection in connections.all(initialized_only=True):
        if except_requests and connection.settings_dict["ATOMIC_REQUESTS"]:
            continue
        manual = connection.connection is not None and not connection.autocommit
        if connection.in_atomic_block or manual:
            raise OpenTransaction(connection.alias)
