"""The number of tasks that wait in a Celery queue. Uses kombu, Celery's messaging library."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading
from .error_messages import explain
from .params import param
from .registry import register_probe
from .time_limit import remaining_seconds

Connection: TypeAlias = Any
Channel: TypeAlias = Any
"""Any, because kombu is only partly annotated, and a channel's attributes depend on the broker."""


def broker_choices() -> list[tuple[str, str]]:
    """Return the names of the site's brokers. The URLs contain passwords and are not shown."""
    return [(name, name) for name in conf.MONITORS_BROKERS]


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueProbe(BaseProbe):
    """The length of a Celery queue."""

    kind: ClassVar[str] = "queue"
    label: ClassVar[str] = "Queue"
    description: ClassVar[str] = "Number of tasks waiting in a Celery queue, in Redis or RabbitMQ."
    unit: ClassVar[str] = "tasks"
    modules: ClassVar[tuple[str, ...]] = ("kombu",)

    queue: str = param("celery", label="Queue")
    broker: str = param(
        "default",
        label="Broker",
        help="One of CHRONIKER_MONITORS_BROKERS; `default` is that of Celery.",
        choices=broker_choices,
    )

    exchange: str = param(
        "",
        label="Exchange",
        help="For Redis: the exchange that the queue is bound to, if it is neither `celery` nor "
        "named like the queue. It shows whether an empty queue exists.",
    )

    def run(self) -> Reading:
        """Ask the broker, without creating the queue."""
        url = conf.MONITORS_BROKERS.get(self.broker)
        if url is None:
            raise ProbeError(f"There is no broker {self.broker!r} in CHRONIKER_MONITORS_BROKERS.")
        with _open_broker(url) as connection:
            channel = connection.default_channel
            if connection.transport.driver_type == "redis":
                return self._measure_redis(channel)
            return self._measure_declared(connection, channel)

    def _measure_redis(self, channel: Channel) -> Reading:
        length = channel._size(self.queue)
        if not length and not self._is_bound(channel):
            raise ProbeError(
                f"There is no queue {self.queue!r} at broker {self.broker!r}: it has no tasks, and "
                "no worker has ever consumed it."
            )
        return Reading(length, f"wait in {self.queue!r}")

    def _is_bound(self, channel: Channel) -> bool:
        """Whether the queue has a binding: Redis has no key for an empty queue, but keeps these."""
        ending = f"{channel.sep}{self.queue}".encode()
        return any(
            member.endswith(ending)
            for exchange in (self.exchange or self.queue, "celery")
            for member in channel.client.smembers(channel.keyprefix_queue % exchange)
        )

    def _measure_declared(self, connection: Connection, channel: Channel) -> Reading:
        try:
            facts = channel.queue_declare(queue=self.queue, passive=True)
        except connection.channel_errors as error:
            if getattr(error, "reply_code", getattr(error, "code", 0)) == 404:
                raise ProbeError(
                    f"There is no queue {self.queue!r} at broker {self.broker!r}."
                ) from error
            raise
        return Reading(
            facts.message_count,
            f"wait in {self.queue!r}; {facts.consumer_count} consumers",
        )


@contextlib.contextmanager
def _open_broker(url: str) -> Iterator[Connection]:
    try:
        from kombu import connection as kombu_connection
        from kombu.exceptions import OperationalError
    except ImportError as error:
        raise ProbeError("Queues need kombu: pip install 'chroniker[celery]'.") from error
    seconds = max(remaining_seconds(), 0.1)
    options = {}
    if url.startswith(("redis", "sentinel")):
        options = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    elif url.startswith(("amqp", "pyamqp")):
        options = {"read_timeout": seconds, "write_timeout": seconds}
    connect: Callable[..., Connection] = kombu_connection.Connection
    connection = connect(url, connect_timeout=seconds, transport_options=options, heartbeat=0)
    place = f"{connection.hostname}:{connection.port or connection.transport.default_port}"
    try:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            yield connection
        finally:
            with contextlib.suppress(Exception):
                connection.release()
    except ProbeError:
        raise
    except OperationalError as error:
        raise ProbeError(f"The broker at {place}: {explain(error.__cause__ or error)}") from error
    except (*connection.connection_errors, *connection.channel_errors) as error:
        raise ProbeError(f"The broker at {place}: {explain(error)}") from error
