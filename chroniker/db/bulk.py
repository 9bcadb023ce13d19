"""Change many rows, each with its own values, in one statement.

Django's ``bulk_update()`` writes a CASE for each column, which costs some hundred microseconds a
row, and it cannot increase a counter. Here the values are a table that the statement joins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, Value
from django.db.models.expressions import CombinedExpression

if TYPE_CHECKING:
    _AnyField = models.Field[Any, Any]

_MAX_PARAMETERS = 30_000
"""Of one statement; SQLite's limit is 32,766."""
_PLAIN = (int, float, str, bool, type(None))
"""Types of values that every database takes as they are."""


@dataclass(frozen=True, slots=True)
class Increase:
    """The value of a field that is increased by a number."""

    by: float


Changes = Mapping[str, object]
"""Field name to its new value: a plain value, a row of the related model, an :class:`Increase`, or
``F(name) + number`` of the same field."""
_Row = tuple[int, Changes]


def update_rows(model: type[Model], rows: Iterable[_Row], *, only: Changes | None = None) -> None:
    """Change each row, found by its primary key.

    ``only``: values that a row must have, otherwise it is left as it is. Rows that change the same
    fields share a statement. Call it in a transaction. Raises TypeError for an expression that is
    not supported.
    """
    connection = connections[router.db_for_write(model)]
    groups: dict[_Shape, list[_Row]] = {}
    for key, changes in rows:
        groups.setdefault(_shape(changes), []).append((key, changes))
    for shape, group in groups.items():
        if not shape:
            continue
        group.sort(key=lambda row: row[0])
        statement = _Statement(model, shape, only or {}, connection)
        size = _MAX_PARAMETERS // (len(shape) + 1)
        for at in range(0, len(group), size):
            statement.execute(group[at : at + size])


_Shape = tuple[tuple[str, bool], ...]
"""The names of the changed fields, and whether each is increased."""


def _shape(changes: Changes) -> _Shape:
    increased = Increase | CombinedExpression
    return tuple([(name, isinstance(value, increased)) for name, value in changes.items()])


class _Statement:
    """An UPDATE of the fields of one shape."""

    def __init__(
        self, model: type[Model], shape: _Shape, only: Changes, connection: BaseDatabaseWrapper
    ) -> None:
        self._connection = connection
        self._fields = [(_field(model, name), increased) for name, increased in shape]
        self._key = _field(model, "pk")
        self._table = connection.ops.quote_name(model._meta.db_table)
        self._only = [(_field(model, name), value) for name, value in only.items()]

    def execute(self, rows: list[_Row]) -> None:
        """Change the rows."""
        values: list[list[Any]] = [
            [key, *(self._value(field, changes[field.name]) for field, _ in self._fields)]
            for key, changes in rows
        ]
        conditions = [
            field.get_db_prep_save(value, self._connection) for field, value in self._only
        ]
        with self._connection.cursor() as cursor:
            if self._connection.vendor == "postgresql":
                # One parameter: psycopg parses the statement for each.
                cursor.execute(self._with_json(), [json.dumps(values, default=str), *conditions])
                return
            sql = self._with_select if self._connection.vendor == "mysql" else self._with_values
            parameters = [value for row in values for value in row]
            cursor.execute(sql(len(rows)), [*parameters, *conditions])

    def _value(self, field: _AnyField, value: object) -> object:
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Increase):
            return value.by
        if isinstance(value, CombinedExpression):
            return _increment(field.name, value)
        if isinstance(value, Model):
            return value.pk
        if self._connection.vendor == "postgresql":
            return value.isoformat() if isinstance(value, datetime) else value
        return field.get_db_prep_save(value, self._connection)

    @property
    def _columns(self) -> list[str]:
        quote = self._connection.ops.quote_name
        return [
            quote(field.column or "") for field in (self._key, *(each for each, _ in self._fields))
        ]

    def _changes(self, target: str) -> str:
        pairs = zip(self._columns[1:], self._fields, strict=True)
        return ", ".join(
            f"{target}{column} = " + (f"t.{column} + v.{column}" if increased else f"v.{column}")
            for column, (_, increased) in pairs
        )

    @property
    def _condition(self) -> str:
        quote = self._connection.ops.quote_name
        key = self._columns[0]
        more = [f"t.{quote(field.column or '')} = %s" for field, _ in self._only]
        return " AND ".join([f"t.{key} = v.{key}", *more])

    def _with_json(self) -> str:
        """PostgreSQL: the rows are arrays of JSON."""
        types = [self._key.rel_db_type(self._connection)]
        types += [_cast(field, self._connection) for field, _ in self._fields]
        read = [
            f"(r.value ->> {n})::{name}" if name != "jsonb" else f"r.value -> {n}"
            for n, name in enumerate(types)
        ]
        names = [f"{value} AS {name}" for value, name in zip(read, self._columns, strict=True)]
        rows = f"SELECT {', '.join(names)} FROM jsonb_array_elements(%s::jsonb) AS r"  # noqa: S608
        update = f"UPDATE {self._table} AS t SET {self._changes('')}"  # noqa: S608
        return f"{update} FROM ({rows}) AS v WHERE {self._condition}"

    def _with_values(self, number: int) -> str:
        """SQLite: a table of parameters."""
        names = ", ".join(self._columns)
        row = f"({', '.join(['%s'] * len(self._columns))})"
        rows = f"WITH v ({names}) AS (VALUES {', '.join([row] * number)})"
        update = f"UPDATE {self._table} AS t SET {self._changes('')}"  # noqa: S608
        return f"{rows} {update} FROM v WHERE {self._condition}"

    def _with_select(self, number: int) -> str:
        """MariaDB and MySQL: the same, which names its columns in the first row."""
        first = "SELECT " + ", ".join(f"%s AS {column}" for column in self._columns)
        row = f"SELECT {', '.join(['%s'] * len(self._columns))}"
        rows = " UNION ALL ".join([first, *[row] * (number - 1)])
        update = f"UPDATE {self._table} AS t JOIN ({rows}) AS v ON {self._condition}"
        return f"{update} SET {self._changes('t.')}"


def _field(model: type[Model], name: str) -> _AnyField:
    field = model._meta.pk if name == "pk" else model._meta.get_field(name)
    assert isinstance(field, models.Field)
    return field


def _cast(field: _AnyField, connection: BaseDatabaseWrapper) -> str | None:
    # A cast to varchar(n) would cut longer text silently.
    return "text" if isinstance(field, models.CharField) else field.db_type(connection)


def _increment(name: str, value: object) -> object:
    """The number in ``F(name) + number``, also of several such sums."""
    if isinstance(value, CombinedExpression) and value.connector == "+":
        left, right = value.lhs, value.rhs
        if isinstance(right, Value) and isinstance(right.value, int | float):
            if isinstance(left, F) and vars(left)["name"] == name:
                return right.value
            number = _increment(name, left)
            assert isinstance(number, int | float)
            return number + right.value
    raise TypeError(f"{value!r} is neither a value nor F({name!r}) plus a number.")


def lock_owned(
    model: type[Model], rows: models.QuerySet[Any], *columns: str
) -> list[tuple[Any, ...]]:
    """Lock rows in the order of their keys, and return their columns; locked ones are left out.

    Call it in a transaction. On SQLite the transaction takes the write lock first.
    """
    connection = connections[router.db_for_write(model)]
    rows = rows.order_by("pk")
    if connection.vendor == "sqlite":
        _take_write_lock(model)
    elif connection.features.has_select_for_update:
        skip = connection.features.has_select_for_update_skip_locked
        rows = rows.select_for_update(skip_locked=skip)
    return list(rows.values_list(*columns))


def _take_write_lock(model: type[Model]) -> None:
    """SQLite: take the write lock, which a transaction that has read something may not get."""
    key = _field(model, "pk").name
    model._base_manager.filter(pk=-1).update(**{key: F(key)})
