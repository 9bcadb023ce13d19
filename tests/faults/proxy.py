"""A TCP proxy between a fake host and its database, which can lose what it is to carry.

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
_LINGER_NOT = struct.pack("ii", 1, 0)


def is_commit(vendor: str, data: bytes) -> bool:
    """Whether the client has just sent a COMMIT: a simple query, or one that is parsed first."""
    if vendor == "mysql":
        return bool(_MYSQL_COMMIT.match(data))
    return b"COMMIT\0" in data


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    lose_answer: bool = False

    def cut(self) -> None:
        """Reset both ends."""
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            writer.transport.abort()


@dataclass(eq=False)
class _Door:
    """One host's way to the database."""

    vendor: str
    upstream: tuple[str, int]
    delay: float = 0.0
    refuse: bool = False
    lose_commits: int = 0
    lost_commits: int = 0
    carried: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    links: set[_Link] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        await self.open.wait()
        try:
            if self.refuse:
                raise ConnectionError
            answers, server = await asyncio.open_connection(*self.upstream)
        except OSError:
            client.transport.abort()
            return
        link = _Link(client, server)
        self.links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry_questions(link, reader))
                group.create_task(self._carry_answers(link, answers))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            link.cut()
            self.links.discard(link)

    async def _carry_questions(self, link: _Link, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            await self._pass()
            if self.lose_commits and is_commit(self.vendor, data):
                self.lose_commits -= 1
                link.lose_answer = True
            link.server.write(data)
            await link.server.drain()
        await self._pass()  # nobody hears of an end through a dead line
        raise ConnectionError

    async def _carry_answers(self, link: _Link, answers: asyncio.StreamReader) -> None:
        while data := await answers.read(65536):
            if link.lose_answer:
                self.lost_commits += 1
                raise ConnectionError
            await self._pass()
            self.carried += len(data)
            link.client.write(data)
            await link.client.drain()
        await self._pass()
        raise ConnectionError

    async def _pass(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self.open.wait()


class _Proxy:
    def __init__(self, vendor: str, upstream: tuple[str, int]) -> None:
        self.vendor = vendor
        self.upstream = upstream
        self.doors: dict[str, _Door] = {}

    async def obey(self, order: dict[str, Any]) -> Any:
        door = self.doors.get(order["door"])
        match order["do"]:
            case "door":
                door = self.doors[order["door"]] = _Door(self.vendor, self.upstream)
                door.open.set()
                server = await asyncio.start_server(door.serve, "127.0.0.1", 0, backlog=256)
                return server.sockets[0].getsockname()[1]
            case "blackhole":
                assert door
                door.open.clear()
            case "resume":
                assert door
                door.open.set()
            case "cut":
                assert door
                for link in list(door.links):
                    link.cut()
            case "refuse":
                assert door
                door.refuse = bool(order["on"])
            case "delay":
                assert door
                door.delay = order["seconds"]
            case "lose_commits":
                assert door
                door.lose_commits = order["number"]
            case "lost":
                return sum(each.lost_commits for each in self.doors.values())
        return None

    async def run(self, control: socket.socket) -> None:
        control.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=control)
        while line := await reader.readline():
            answer = await self.obey(json.loads(line))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()


class Proxy:
    """The conductor's end: the proxy is a process of its own, and ends with this one."""

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

    def tell(self, do: str, door: str = "", **facts: Any) -> Any:
        """Give an order and wait until it is obeyed."""
        self._socket.sendall(json.dumps({"do": do, "door": door, **facts}).encode() + b"\n")
        return json.loads(self._answers.readline())

    def forget(self) -> None:
        """In a fork: close what belongs to the conductor."""
        self._answers.close()
        self._socket.close()

    def close(self) -> None:
        self.forget()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
