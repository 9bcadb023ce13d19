"""The health port of ``cronserver``.

A process of its own, because a scheduler that forks must not have threads.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn

from django.db import connections

from .readiness import ReadinessProbe
from .responses import CONTENT_TYPE, PATHS, respond

STALLED_SECONDS = 180
"""Without a pass of the loop for so long, the scheduler counts as stalled. Longer than the kernel
tries to reach a database that does not answer."""
_CLIENT_SECONDS = 10
_PR_SET_PDEATHSIG = 1


class LoopClock:
    """When the loop last turned, in memory that both processes share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.note_pass()

    def note_pass(self) -> None:
        """Record that the loop turns."""
        self._memory[:] = struct.pack("d", time.monotonic())

    def is_turning(self) -> bool:
        """Whether the loop has turned lately."""
        (last,) = struct.unpack("d", self._memory[:])
        return bool(time.monotonic() - last < STALLED_SECONDS)


class HealthProcess:
    """Answers at ``/health`` and ``/ready`` until it is closed, or its scheduler dies.

    Parameters:
        port: the port, on all addresses of the machine; 0: any free one
        clock: when the loop of the scheduler turned
    """

    def __init__(self, port: int, clock: LoopClock) -> None:
        """Listen. Raises OSError or OverflowError."""
        dual = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if dual else socket.AF_INET
        self._socket = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
        self._clock = clock
        self._pid = 0
        self.port: int = self._socket.getsockname()[1]

    def start(self) -> None:
        """Fork the process. Before any thread of this one is started. Raises OSError."""
        connections.close_all()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _run_server(parent, self._socket, self._clock)
        self._socket.close()

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _run_server(parent: int, listener: socket.socket, clock: LoopClock) -> NoReturn:
    """Serve until the kernel kills this process, because its scheduler has ended."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # The scheduler is alive while it waits for its runs.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if os.getppid() == parent:
            _HealthServer(listener, clock).serve_forever()
            code = 0
    finally:
        os._exit(code)


class _HealthServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, clock: LoopClock) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.clock = clock
        self.readiness = ReadinessProbe()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: clients may disconnect at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: _HealthServer
    timeout = _CLIENT_SECONDS

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in PATHS:
            self.send_error(404)
            return
        answer = respond(path, self.server.clock.is_turning, self.server.readiness)
        self.send_response(answer.status)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: there is a probe every few seconds."""
