"""A TCP proxy between a fake host and its database that can drop data.

One process serves all hosts, with a port (a *door*) for each. It knows enough of both protocols
to find a COMMIT: it can hand it on, wait until the server has answered, and then drop the answer
with the connection, so that the client cannot know what became of its transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

_MYSQL_COMMIT = re.compile(rb"^...\x00\x03COMMIT$", re.DOTALL | re.IGNORECASE)
_NO_LINGER = struct.pack("ii", 1, 0)


def is_commit(vendor: str, data: bytes) -> bool:
    """Whether the client sent a COMMIT, as a simple or a prepared query."""
    if vendor == "mysql":
        return bool(_MYSQL_COMMIT.match(data))
    return b"COMMIT\0" in data


@dataclass(eq=False)
class _Connection:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    drop_response: bool = False

    def cut(self) -> None:
        """Reset both connections."""
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            writer.transport.abort()


@dataclass(eq=False)
class _Listener:
    """The connections of one host to the database."""

    vendor: str
    upstream: tuple[str, int]
    delay: float = 0.0
    refuse: bool = False
    lose_commits: int = 0
    lost_commits: int = 0
    carried: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[_Connection] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        await self.open.wait()
        try:
            if self.refuse:
                raise ConnectionError
            answers, server = await asyncio.open_connection(*self.upstream)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, server)
        self.connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward_requests(connection, reader))
                group.create_task(self._forward_responses(connection, answers))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            connection.cut()
            self.connections.discard(connection)

    async def _forward_requests(
        self, connection: _Connection, reader: asyncio.StreamReader
    ) -> None:
        while data := await reader.read(65536):
            await self._wait_until_open()
            if self.lose_commits and is_commit(self.vendor, data):
                self.lose_commits -= 1
                connection.drop_response = True
            connection.server.write(data)
            await connection.server.drain()
        await self._wait_until_open()  # a dead line delivers no end of connection
        raise ConnectionError

    async def _forward_responses(
        self, connection: _Connection, answers: asyncio.StreamReader
    ) -> None:
        while data := await answers.read(65536):
            if connection.drop_response:
                self.lost_commits += 1
                raise ConnectionError
            await self._wait_until_open()
            self.carried += len(data)
            connection.client.write(data)
            await connection.client.drain()
        await self._wait_until_open()
        raise ConnectionError

    async def _wait_until_open(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self.open.wait()


class _Proxy:
    def __init__(self, vendor: str, upstream: tuple[str, int]) -> None:
        self.vendor = vendor
        self.upstream = upstream
        self.listeners: dict[str, _Listener] = {}

    async def execute(self, order: dict[str, Any]) -> Any:
        listener = self.listeners.get(order["door"])
        match order["do"]:
            case "door":
                listener = self.listeners[order["door"]] = _Listener(self.vendor, self.upstream)
                listener.open.set()
                server = await asyncio.start_server(listener.serve, "127.0.0.1", 0, backlog=256)
                return server.sockets[0].getsockname()[1]
            case "blackhole":
                assert listener
                listener.open.clear()
            case "resume":
                assert listener
                listener.open.set()
            case "cut":
                assert listener
                for connection in list(listener.connections):
                    connection.cut()
            case "refuse":
                assert listener
                listener.refuse = bool(order["on"])
            case "delay":
                assert listener
                listener.delay = order["seconds"]
            case "lose_commits":
                assert listener
                listener.lose_commits = order["number"]
            case "lost":
                return sum(each.lost_commits for each in self.listeners.values())
        return None

    async def run(self, control: socket.socket) -> None:
        control.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=control)
        while line := await reader.readline():
            answer = await self.execute(json.loads(line))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()


class Proxy:
    """The handle of the injector: the proxy is a separate process that ends with this one."""

    def __init__(self, vendor: str, upstream: tuple[str, int]) -> None:
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                asyncio.run(_Proxy(vendor, upstream).run(theirs))
            finally:
                os._exit(0)
        theirs.close()
        self._socket = ours
        self._answers = ours.makefile("rb")

    def send_command(self, do: str, listener: str = "", **facts: Any) -> Any:
        """Send a command and wait until it is done."""
        self._socket.sendall(json.dumps({"do": do, "door": listener, **facts}).encode() + b"\n")
        return json.loads(self._answers.readline())

    def close_inherited(self) -> None:
        """In a fork: close the resources of the injector."""
        self._answers.close()
        self._socket.close()

    def close(self) -> None:
        self.close_inherited()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
