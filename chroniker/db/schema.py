"""Whether a newer version of Chroniker has migrated the database.

During a deployment two versions tick beside each other. That is safe while both know every
migration that was applied. An older one that does not could write rows that the newer one does not
understand, so it stops.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from django.conf import settings
from django.db import DatabaseError, InterfaceError, models
from django.db.models import Q
from django.db.models.expressions import RawSQL

from chroniker.exceptions import NewerSchema

from .alias import database
from .transactions import is_forbidden, is_missing_schema

_NUMBER = re.compile(r"(?:^|_squashed_)(\d{4})_")
# Django's table of applied migrations. Its model is created on use, by a module that no tick needs.
_NEWER = "SELECT 1 FROM django_migrations WHERE app = 'chroniker' AND name >= %s"
_readable = True
"""Whether that table can be read; a site may not let the scheduler's role."""


@lru_cache(maxsize=1)
def _next_migration() -> str | None:
    """The number of the first migration that this version does not know, as names begin with it.

    None if the site uses no migrations.
    """
    module = settings.MIGRATION_MODULES.get("chroniker", "chroniker.migrations")
    if module is None:
        return None
    names = [info.name for info in iter_modules(import_module(module).__path__)]
    numbers = [int(number) for name in names for number in _NUMBER.findall(name)]
    return f"{max(numbers, default=0) + 1:04d}"


def known_schema() -> Q | RawSQL:
    """The condition that no migration was applied that this version does not know.

    For an UPDATE of the host's row, so that it costs no query of its own.
    """
    first = _next_migration()
    if first is None or not _readable:
        return Q()
    return RawSQL(f"NOT EXISTS ({_NEWER})", [first], models.BooleanField())  # noqa: S611


def refuse_newer_schema(version: str) -> None:
    """Raise NewerSchema if there is such a migration. It costs a query.

    ``version``: the version of Chroniker that runs here.
    """
    first = _next_migration()
    if first is None or not _readable:
        return
    try:
        found = _is_newer(first)
    except (DatabaseError, InterfaceError):
        return
    if found:
        raise NewerSchema(version)


def check_readable() -> bool:
    """Whether the table of migrations can be read. If not, later calls do not try it again."""
    global _readable
    try:
        _is_newer("")
    except DatabaseError as error:
        _readable = not (is_missing_schema(error) or is_forbidden(error))
    return _readable


def _is_newer(first: str) -> bool:
    with database().cursor() as cursor:
        cursor.execute(_NEWER, [first])
        return cursor.fetchone() is not None
