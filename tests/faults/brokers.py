"""Message brokers of an experiment, which it crashes, stops, freezes and empties."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.machine import find_program, free_port, require
from tests.support.processes import wait_until

_RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
START_SECONDS = 60.0


class Broker:
    """A server in a process group of its own."""

    kind = ""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> tuple[list[str], dict[str, str]]:
        """The program with its arguments, and its environment."""
        raise NotImplementedError

    def start(self, *, wait: bool = True) -> None:
        """Start it, with the messages that it has stored."""
        arguments, environment = self.command()
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments, env=environment, cwd=self.directory, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if wait:
            wait_until(self.answers, START_SECONDS, message=f"{self.kind} to start")

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def crash(self) -> None:
        """Kill it, as a power failure does."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def signal(self, number: int) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, number)


class Redis(Broker):
    """Redis, which writes each command to its file."""

    kind = "redis"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> tuple[list[str], dict[str, str]]:
        program = find_program("redis-server")
        assert program is not None
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
                   "--save", "", "--appendonly", "yes"]  # fmt: skip
        return [program, *options], dict(os.environ)


class RabbitMQ(Broker):
    """A RabbitMQ node of its own."""

    kind = "rabbitmq"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def command(self) -> tuple[list[str], dict[str, str]]:
        place = self.directory
        (place / "plugins").write_text("[].")
        settings = {
            "NODENAME": f"faults-{self.port}@localhost",
            "NODE_IP_ADDRESS": "127.0.0.1",
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self.port + 1 if self.port < 65000 else free_port()),
            "MNESIA_BASE": str(place / "mnesia"),
            "LOG_BASE": str(place / "logs"),
            "ENABLED_PLUGINS_FILE": str(place / "plugins"),
            "CONF_ENV_FILE": os.devnull,
            "CONFIG_FILE": str(place / "none"),
        }
        own = {f"RABBITMQ_{name}": value for name, value in settings.items()}
        return [_RABBITMQ], {**os.environ, "HOME": str(place), **own}


def require_broker(kind: str) -> None:
    """Skip the test if the machine cannot start such a broker; fail it with CI=true."""
    require({"redis": "redis-server", "rabbitmq": _RABBITMQ}[kind])


@contextmanager
def own_broker(kind: str) -> Iterator[Broker]:
    """A running broker for this block."""
    directory = Path(tempfile.mkdtemp(prefix="faults-broker-"))
    broker = {"redis": Redis, "rabbitmq": RabbitMQ}[kind](directory)
    try:
        broker.start()
        yield broker
    finally:
        broker.crash()
        shutil.rmtree(directory, ignore_errors=True)
