"""Connections that must not be shared with a forked process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connections

from .alias import database

_site_options: dict[str, dict[str, object]] = {}
"""OPTIONS of the site by alias, while this process uses no pool."""


def before_fork() -> None:
    """Close the connections to databases and caches, and the pools of connections."""
    from django.core.cache import caches

    connections.close_all()
    caches.close_all()
    close_pools()


def has_dead_connection() -> bool:
    """Whether an open connection of this process cannot be used any more. Asks the servers."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        try:
            if not connection.is_usable():
                return True
        except Exception:  # whatever a driver raises for a connection in a bad state
            return True
    return False


def close_connections() -> None:
    """Close all connections of this process, in any state: the next use opens a new one."""
    for connection in connections.all(initialized_only=True):
        try:
            connection.close()
        except Exception:  # whatever a driver raises for a connection that is not usable
            connection.connection = None


def close_pools() -> None:
    """Close the connection pools of this process (``OPTIONS = {"pool": True}``).

    ``connections.close_all()`` returns a connection to its pool, which keeps it open: a forked
    process would share its socket, and have a pool without threads. The next query opens a pool.
    """
    for connection in connections.all(initialized_only=True):
        close_pool = getattr(connection, "close_pool", None)  # PostgreSQL's only
        if close_pool is not None and _has_pool(connection):
            close_pool()


@contextmanager
def without_pool() -> Iterator[None]:
    """Connect this process, but not the jobs that it starts, without the site's pool.

    A scheduler needs one connection, and it forks. In an outage a pool makes each query wait for 30
    seconds, and tries to connect less and less often, so leases would run out after its end.
    """
    connection = database()
    options = connection.settings_dict["OPTIONS"]
    if not options.get("pool"):
        yield
        return
    connection.close()
    close_pools()
    process, alias = os.getpid(), connection.alias
    _site_options[alias] = options
    connection.settings_dict["OPTIONS"] = {**options, "pool": False}
    try:
        yield
    finally:
        if os.getpid() == process:
            connection.close()
            connection.settings_dict["OPTIONS"] = _site_options.pop(alias)


def forget_logged_queries() -> None:
    """Empty the logs of queries that Django keeps while DEBUG is on.

    It empties them at each request, but a scheduler has none: the last 9,000 statements would stay
    in memory, and some insert megabytes of output.
    """
    if settings.DEBUG:
        for connection in connections.all(initialized_only=True):
            connection.queries_log.clear()


def forget_inherited_connections() -> None:
    """In a forked process: drop what belongs to its parent, without a word to the server."""
    for connection in connections.all(initialized_only=True):
        connection.connection = None
        if connection.alias in _site_options:
            connection.settings_dict["OPTIONS"] = _site_options.pop(connection.alias)
        if _has_pool(connection):
            vars(type(connection))["_connection_pools"].pop(connection.alias)


def _has_pool(connection: object) -> bool:
    return getattr(connection, "alias", None) in getattr(connection, "_connection_pools", {})
