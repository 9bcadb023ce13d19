"""Connections that must not be shared with a forked process."""

from __future__ import annotations

from django.db import connections


def before_fork() -> None:
    """Close the connections to databases and caches, and the pools of connections."""
    from django.core.cache import caches

    connections.close_all()
    caches.close_all()
    close_pools()


def close_pools() -> None:
    """Close the connection pools of this process (``OPTIONS = {"pool": True}``).

    ``connections.close_all()`` returns a connection to its pool, which keeps it open: a forked
    process would share its socket, and have a pool without threads. The next query opens a pool.
    """
    for connection in connections.all(initialized_only=True):
        close_pool = getattr(connection, "close_pool", None)  # PostgreSQL's only
        if close_pool is not None and _has_pool(connection):
            close_pool()


def forget_inherited_connections() -> None:
    """In a forked process: drop what belongs to its parent, without a word to the server."""
    for connection in connections.all(initialized_only=True):
        connection.connection = None
        if _has_pool(connection):
            vars(type(connection))["_connection_pools"].pop(connection.alias)


def _has_pool(connection: object) -> bool:
    return getattr(connection, "alias", None) in getattr(connection, "_connection_pools", {})
