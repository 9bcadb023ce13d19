"""Routers as sites have them."""

from __future__ import annotations

from typing import Any


class OwnAlias:
    """Everything is in one database, which is not ``default``."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "scheduler"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "scheduler"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "scheduler"


class ReadsFromReplica:
    """The router of Django's documentation: writes to the primary, reads from a replica."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "default"


class UsersElsewhere:
    """The tables of users are in ``default``, those of Chroniker in another database."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label.startswith("chroniker") else None

    db_for_write = db_for_read
