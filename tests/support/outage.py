"""Statements that the database does not answer, or refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connection, transaction


@contextmanager
def failing_statements(
    *parts: str, error: type[Exception] = OperationalError, parameter: object = None
) -> Iterator[None]:
    """Statements that contain all of ``parts`` raise ``error``: by default, as in an outage.

    ``parameter``: only those that have this parameter.
    """

    def refuse(
        execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        values = [
            value
            for each in params or ()
            for value in (each if isinstance(each, list) else [each])  # an array of PostgreSQL
        ]
        meant = parameter is None or parameter in values
        if meant and all(part in sql for part in parts):
            raise error("the server closed the connection")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        yield


@contextmanager
def lost_reply(*parts: str) -> Iterator[None]:
    """The transaction of a statement that contains ``parts`` is committed; nobody hears of it."""

    def lose() -> None:
        raise OperationalError("the server closed the connection")

    def watch(
        execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        result = execute(sql, params, many, context)
        if all(part in sql for part in parts):
            transaction.on_commit(lose)
        return result

    with connection.execute_wrapper(watch):
        yield
