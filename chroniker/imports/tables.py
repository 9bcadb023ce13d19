"""Tables of other apps, read without the app being installed."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connections

from chroniker.exceptions import ChronikerError

Record = Mapping[str, object]


class NoSuchTable(ChronikerError):
    """The database has no such table."""

    def __init__(self, table: str, alias: str) -> None:
        super().__init__(
            f"The database {alias!r} has no table {table}. Choose another one with --database."
        )
        self.table = table


def read_table(alias: str, table: str) -> list[Record]:
    """Return all rows of a table of another app, in the order of their keys."""
    connection = connections[alias]
    if table not in connection.introspection.table_names():
        raise NoSuchTable(table, alias)
    with connection.cursor() as cursor:
        # The name is one of ours, not the user's.
        cursor.execute(
            f"SELECT * FROM {connection.ops.quote_name(table)} ORDER BY id"  # noqa: S608
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
