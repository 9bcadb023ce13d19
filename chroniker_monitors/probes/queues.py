"""How many tasks wait in a queue of Celery's, by kombu, Celery's own way to its broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from chroniker_monitors.conf import conf
from chroniker_monitors.exceptions import ProbeError

from .base import BaseProbe, Reading, param
from .error_messages import explain
from .registry import register_probe
from .time_limit import remaining_seconds


def broker_choices() -> list[tuple[str, str]]:
    """The brokers that the site names; their URLs, which hold passwords, are shown to nobody."""
    return [(name, name) for name in conf.MONITORS_BROKERS]


@register_probe
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueProbe(BaseProbe):
    """The length of a queue."""

    kind: ClassVar[str] = "queue"
    label: ClassVar[str] = "Queue"
    description: ClassVar[str] = "Tasks that wait in a Celery queue, in Redis or RabbitMQ."
    unit: ClassVar[str] = "tasks"
    modules: ClassVar[tuple[str, ...]] = ("kombu",)

    queue: str = param("celery", label="Queue")
    broker: str = param(
        "default",
        label="Broker",
        help="One of CHRONIKER_MONITORS_BROKERS, or Celery's own as `default`.",
        choices=broker_choices,
    )

    exchange: str = param(
        "",
        label="Exchange",
        help="In Redis, to tell an empty queue from none: the exchange that it is bound to, if "
        "neither its namesake nor `celery`.",
    )

    def run(self) -> Reading:
        """Ask the broker, without making the queue."""
        url = conf.MONITORS_BROKERS.get(self.broker)
        if url is None:
            raise ProbeError(
                f"There is no broker {self.broker!r}; CHRONIKER_MONITORS_BROKERS names them."
            )
        with _open_broker(url) as connection:
            channel = connection.default_channel
            if connection.transport.driver_type == "redis":
                return self._measure_redis(channel)
            return self._measure_declared(connection, channel)

    def _measure_redis(self, channel: Any) -> Reading:
        length = channel._size(self.queue)
        if not length and not self._is_bound(channel):
            raise ProbeError(
                f"There is no queue {self.queue!r} at broker {self.broker!r}: no task waits in it "
                "and no worker has ever listened to it."
            )
        return Reading(length, f"tasks wait in {self.queue!r}")

    def _is_bound(self, channel: Any) -> bool:
        """Whether Celery knows the queue: an empty list is no key in Redis, but a binding is."""
        ending = f"{channel.sep}{self.queue}".encode()
        return any(
            member.endswith(ending)
            for exchange in (self.exchange or self.queue, "celery")
            for member in channel.client.smembers(channel.keyprefix_queue % exchange)
        )

    def _measure_declared(self, connection: Any, channel: Any) -> Reading:
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
            f"tasks wait in {self.queue!r}; {facts.consumer_count} consumers",
        )


@contextlib.contextmanager
def _open_broker(url: str) -> Iterator[Any]:
    try:
        from kombu.connection import Connection
        from kombu.exceptions import OperationalError
    except ImportError as error:
        raise ProbeError("Queues need kombu: pip install 'chroniker[celery]'.") from error
    seconds = max(remaining_seconds(), 0.1)
    options = {}
    if url.startswith(("redis", "sentinel")):
        options = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    elif url.startswith(("amqp", "pyamqp")):
        options = {"read_timeout": seconds, "write_timeout": seconds}
    make: Any = Connection
    connection = make(url, connect_timeout=seconds, transport_options=options, heartbeat=0)
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
