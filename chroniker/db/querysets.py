"""The QuerySet of all tables of Chroniker."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, TypeVar

from django.db import connections, models, router

M = TypeVar("M", bound=models.Model)


class PrimaryQuerySet(models.QuerySet[M]):
    """Reads from the database to which it writes, unless ``using()`` names another one.

    A site's router may send reads to a replica. The scheduler would then not see what it has just
    written.
    """

    if TYPE_CHECKING:
        _db: str | None
        _hints: dict[str, object]

    @property
    def db(self) -> str:
        """The alias on which the query is executed."""
        return self._db or router.db_for_write(self.model, **self._hints)

    def lock(self, keys: Collection[int]) -> set[int]:
        """Lock rows until the end of the transaction, without waiting.

        Returns the keys of the rows that another transaction has locked: leave them for later, so
        that they do not delay the others. SQLite has no locks of rows, so there it does nothing.
        """
        if not keys or not connections[self.db].features.has_select_for_update_skip_locked:
            return set()
        rows = self.filter(pk__in=keys).order_by()
        free = rows.select_for_update(skip_locked=True).values_list("pk", flat=True)
        missing = set(keys).difference(free)
        if not missing:
            return missing
        return set(self.filter(pk__in=missing).order_by().values_list("pk", flat=True))
