"""A query that a process sends again and again: Django compiles it once.

Compiling takes several times as long as the database needs for an answer from an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections

if TYPE_CHECKING:
    from django.db.models import QuerySet


class PreparedQuery:
    """The compiled form of ``rows``, a query set of ``values()`` without changing parameters."""

    def __init__(self, rows: QuerySet[Any, Any]) -> None:
        query = rows.query
        self._names = list(query.selected or ())  # in the order of the columns
        self._compiler = query.get_compiler(rows.db)
        sql = self._compiler.as_sql()
        self._compiler.as_sql = lambda *args, **options: sql

    def usable(self) -> bool:
        """Whether this thread may use it: the connection is that of the thread that made it."""
        connection = self._compiler.connection
        return connections[connection.alias] is connection

    def first(self) -> dict[str, Any] | None:
        """Send it, and return the first row."""
        for row in self._compiler.results_iter(chunked_fetch=False):
            return dict(zip(self._names, row, strict=True))
        return None
