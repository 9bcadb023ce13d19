"""Connections that must not be shared with a forked process."""

from __future__ import annotations

from django.db import connections


def before_fork() -> None:
    """Close the connections to databases and caches."""
    from django.core.cache import caches

    connections.close_all()
    caches.close_all()
