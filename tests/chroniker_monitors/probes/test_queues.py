"""Celery queues in a real Redis and a real RabbitMQ."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Exchange, Queue

from tests.support.machine import free_port, require
from tests.support.measurement import (
    build_errors,
    measure_error,
    measure_value,
    measured_number,
)
from tests.support.probe_servers import send_nothing, serve_socket

URLS = {
    "redis": "redis://127.0.0.1:6379/9",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


@pytest.fixture(params=sorted(URLS))
def broker(request: pytest.FixtureRequest, settings: Any) -> str:
    """A running broker that the site has configured; its URL."""
    require(request.param)
    settings.CHRONIKER_MONITORS_BROKERS = {"default": URLS[request.param]}
    return URLS[request.param]


@pytest.fixture
def queue(broker: str) -> Iterator[Any]:
    """A queue for this test, declared as Celery workers do."""
    name = f"chroniker-test-{uuid.uuid4().hex}"
    with Connection(broker) as connection:
        bound = Queue(name, Exchange(name), routing_key=name)(connection.default_channel)
        bound.declare()
        try:
            yield bound
        finally:
            bound.delete()
            bound.exchange.delete()


def put(queue: Any, number: int) -> None:
    with queue.channel.connection.client.Producer() as producer:
        for _ in range(number):
            producer.publish("{}", exchange=queue.name, routing_key=queue.name, priority=3)


def test_queue_length_is_measured(queue: Any) -> None:
    assert measured_number("queue", queue=queue.name) == 0, "declared, and empty"
    put(queue, 3)
    found = measure_value("queue", queue=queue.name)
    assert (found.value, found.unit) == (3, "tasks")
    assert queue.name in found.message
    queue.purge()
    assert measured_number("queue", queue=queue.name) == 0


def test_measuring_consumes_and_creates_nothing(broker: str) -> None:
    name = f"chroniker-test-{uuid.uuid4().hex}"
    for _ in range(2):
        said = measure_error("queue", queue=name)
        assert said.startswith(f"There is no queue {name!r} at broker 'default'")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_missing_broker_is_unknown(settings: Any, scheme: str) -> None:
    port = free_port()
    settings.CHRONIKER_MONITORS_BROKERS = {"default": f"{scheme}://me:hunter22@127.0.0.1:{port}/"}
    said = measure_error("queue")
    assert said.startswith(f"The broker at 127.0.0.1:{port}: ")
    assert "refused" in said and "hunter22" not in said


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_unresponsive_broker_is_unknown_in_time(settings: Any, scheme: str) -> None:
    with serve_socket(send_nothing) as port:
        settings.CHRONIKER_MONITORS_BROKERS = {"default": f"{scheme}://127.0.0.1:{port}/"}
        assert measure_error("queue", timeout=1).startswith("No result within 1 s.")


def test_wrong_password_is_unknown_and_not_shown(settings: Any) -> None:
    require("rabbitmq")
    url = URLS["rabbitmq"].replace("guest:guest", "guest:hunter22")
    settings.CHRONIKER_MONITORS_BROKERS = {"default": url}
    said = measure_error("queue")
    assert "ACCESS_REFUSED" in said and "hunter22" not in said


def test_queue_of_another_exchange_is_known_by_its_name(settings: Any) -> None:
    require("redis")
    settings.CHRONIKER_MONITORS_BROKERS = {"default": URLS["redis"]}
    name = f"chroniker-test-{uuid.uuid4().hex}"
    with Connection(URLS["redis"]) as connection:
        bound = Queue(name, Exchange(f"{name}-x"), routing_key="k")(connection.default_channel)
        bound.declare()
        try:
            assert "There is no queue" in measure_error("queue", queue=name)
            assert measured_number("queue", queue=name, exchange=f"{name}-x") == 0
        finally:
            bound.delete()
            bound.exchange.delete()


def test_celery_broker_is_the_default(settings: Any) -> None:
    require("redis")
    settings.CELERY_BROKER_URL = URLS["redis"]
    assert "There is no queue" in measure_error("queue", queue=uuid.uuid4().hex)


def test_only_configured_brokers_are_used(settings: Any) -> None:
    assert "no choices" in build_errors("queue")["broker"]
    settings.CHRONIKER_MONITORS_BROKERS = {"main": URLS["redis"]}
    assert "not one of: main" in build_errors("queue", broker="redis://127.0.0.1/")["broker"]
