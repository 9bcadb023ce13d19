"""The database of Chroniker: the one that the site's router names for writes to its tables.

Everything goes there, reads included: a replica may lag, and the scheduler reads what it has just
written. No module of Chroniker uses ``django.db.connection`` or an ``atomic()`` without an alias,
which are those of ``default``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from django.apps import apps
from django.db import connections, router, transaction

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.transaction import Atomic

V = TypeVar("V", bound=Callable[..., object])


def database_alias() -> str:
    """Return the alias in ``DATABASES``, which the site's router chooses."""
    return router.db_for_write(apps.get_model("chroniker", "JobState"))


def database() -> BaseDatabaseWrapper:
    """Return this thread's connection to the database of Chroniker."""
    return connections[database_alias()]


def atomic() -> Atomic:
    """Return ``transaction.atomic()`` of the database of Chroniker."""
    return transaction.atomic(using=database_alias())


def on_commit(action: Callable[[], object]) -> None:
    """Call ``action`` after the commit of the current transaction."""
    transaction.on_commit(action, using=database_alias())


def non_atomic_requests(view: V) -> V:
    """Exempt a view from ``ATOMIC_REQUESTS`` on every database; Django's own exempts one."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
