"""Runs on Celery workers: publishes orders as messages of the task ``chroniker.run``.

What the worker does is in :mod:`chroniker.workers.celery`. Celery is imported at the first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from django.utils.module_loading import import_string

from chroniker.conf import conf
from chroniker.exceptions import ExecutorNotReady

from .base import RunOrder

if TYPE_CHECKING:
    from celery import Celery
    from kombu.connection import Connection

TASK = "chroniker.run"
"""The name of the task."""
_TIMEOUT_SECONDS = 4.0
"""How long the broker may take for each step: the scheduler has leases to renew."""
_TRANSPORT_OPTIONS: dict[str, object] = {
    # RabbitMQ. With confirmation, a message that start() reports as published is on the broker.
    "confirm_publish": True,
    "read_timeout": _TIMEOUT_SECONDS,
    "write_timeout": _TIMEOUT_SECONDS,
    "max_retries": 0,
    # Redis
    "socket_timeout": _TIMEOUT_SECONDS,
    "socket_connect_timeout": _TIMEOUT_SECONDS,
}


def celery_app() -> Celery:
    """The site's Celery app. Raises ExecutorNotReady."""
    try:
        from celery import current_app
    except ImportError as error:
        raise ExecutorNotReady("Celery is not installed. Install chroniker[celery].") from error
    try:
        app = import_string(conf.CELERY_APP) if conf.CELERY_APP else current_app
        app.finalize(auto=True)
    except Exception as error:  # whatever the site's module raises
        raise ExecutorNotReady(f"The Celery app cannot be imported: {error}") from error
    found: Celery = app
    return found


class CeleryExecutor:
    """Publishes each order to its queue, through a connection that is open only meanwhile.

    A connection that stays open would be inherited by processes that are forked later.
    """

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def check(self) -> None:
        """Connect to the broker. Raises ExecutorNotReady."""
        self._connect()

    def _connect(self) -> Connection:
        if self._connection is not None:
            return self._connection
        app = celery_app()
        options = {**(app.conf.broker_transport_options or {}), **_TRANSPORT_OPTIONS}
        connection: Connection = app.connection_for_write(
            connect_timeout=_TIMEOUT_SECONDS, transport_options=options
        )
        try:
            connection.connect()
            connection.default_channel  # noqa: B018  # Redis connects no earlier
        except Exception as error:  # each transport has its own
            connection.release()
            raise ExecutorNotReady(
                f"The broker {connection.as_uri()} cannot be reached: {_describe(error)}"
            ) from error
        self._connection = connection
        return connection

    def start(self, orders: Sequence[RunOrder]) -> Mapping[int, str]:
        """Publish orders; return the reason for each run whose order was not published."""
        failed: dict[int, str] = {}
        reason = ""
        try:
            connection = self._connect()
            app = celery_app()
            with app.amqp.Producer(connection.default_channel, auto_declare=False) as producer:
                for order in orders:
                    if not reason:
                        reason = _publish(app, producer, order)
                    if reason:
                        failed[order.run] = reason
        except ExecutorNotReady as error:
            failed = {order.run: str(error) for order in orders}
        except Exception as error:  # each transport has its own
            reason = f"The broker did not accept the run: {_describe(error)}"
            failed = {order.run: reason for order in orders}
        finally:
            self.close()
        return failed

    def capacity(self, queue: str) -> int | None:
        """As many as the workers that have reported have processes."""
        return None

    def close(self) -> None:
        """Close the connection to the broker."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it was broken already
                connection.release()


def _publish(app: Celery, producer: object, order: RunOrder) -> str:
    """Publish one order; return the reason if that failed."""
    try:
        app.send_task(
            TASK,
            kwargs={"order": order.dump()},
            queue=order.queue,
            producer=producer,
            retry=False,
            ignore_result=True,
            serializer="json",
            confirm_timeout=_TIMEOUT_SECONDS,
        )
    except Exception as error:  # each transport has its own
        return f"The broker did not accept the run: {_describe(error)}"
    return ""


def _describe(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
