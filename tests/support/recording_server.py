"""An HTTP server that records requests, as Sentry or a dead man's switch."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _RecordingHandler(BaseHTTPRequestHandler):
    server: RecordingServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.record_request(self.command, self.path, body)
        if self.server.mode == "hang":
            self.server.released.wait(120)
        if self.server.mode == "drip":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 600\r\n\r\n")
            while not self.server.released.wait(0.2):
                self.wfile.write(b".")
            return
        self.send_response(500 if self.server.mode == "fail" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self.do_POST()

    def log_message(self, *args: Any) -> None: ...


class RecordingServer(ThreadingHTTPServer):
    """Records requests; ``mode`` is "ok", "fail", "hang" or "drip" (a byte at a time)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _RecordingHandler)
        self.mode = "ok"
        self.released = threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[bytes] = []
        self.items: list[tuple[str, dict[str, Any]]] = []

    def handle_error(self, *args: Any) -> None:
        """Ignore clients that disconnect; some tests do that."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def dsn(self) -> str:
        return f"http://0123456789abcdef@127.0.0.1:{self.server_port}/42"

    def record_request(self, method: str, path: str, body: bytes) -> None:
        self.requests.append((method, path))
        self.bodies.append(body)
        if path.startswith("/api/"):
            self.items += _items(body)

    @property
    def check_ins(self) -> list[dict[str, Any]]:
        return [item for kind, item in list(self.items) if kind == "check_in"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [item for kind, item in list(self.items) if kind == "event"]


def _items(body: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The items of an envelope: a line of headers for all, then headers and payload of each."""
    _, _, rest = body.partition(b"\n")
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        headers = json.loads(line)
        length = headers.get("length", rest.find(b"\n"))
        payload, rest = rest[:length], rest[length:].removeprefix(b"\n")
        if headers["type"] in ("check_in", "event"):
            yield headers["type"], json.loads(payload)


@contextmanager
def run_recording_server() -> Iterator[RecordingServer]:
    recording_server = RecordingServer()
    thread = threading.Thread(target=recording_server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield recording_server
    finally:
        recording_server.released.set()
        recording_server.shutdown()
        thread.join()
        recording_server.server_close()
