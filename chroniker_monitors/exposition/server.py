"""The page without a web site: a small threading HTTP server."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, HttpResponseNotAllowed

from .response import respond

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

PATH = "/metrics"
METHODS = ("GET", "HEAD")
CLIENT_SECONDS = 10
"""How long a client may take for its request, and for reading an answer."""


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """WSGI: the page at /metrics, under the same rules of access as on a web site."""
    response = _answer(WSGIRequest(environ))
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.content]


def _answer(request: WSGIRequest) -> HttpResponse:
    if request.path_info != PATH:
        return HttpResponse(
            f"The metrics are at {PATH}.\n", status=404, content_type="text/plain; charset=utf-8"
        )
    if request.method not in METHODS:
        return HttpResponseNotAllowed(METHODS)
    return respond(request)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """A thread for each request; none of them stops the server from ending."""

    daemon_threads = True

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind at once. Raises OSError."""
        self.tls = tls
        family, *_, sockaddr = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(sockaddr[0]), port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without asking the name service for this machine's name, which may hang."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection. Its TLS handshake is left to its own thread, which does not wait long."""
        connection, address = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or says nothing is its own trouble."""
        logger.debug("A request from %s failed", client_address, exc_info=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{host}:{self.server_port}{PATH}"

    def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        with _on_signals(lambda: threading.Thread(target=self.shutdown).start()):
            self.serve_forever()


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later with that certificate and key (PEM). Raises OSError, ssl.SSLError too."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Without a password: a server that asks for one at a terminal would hang there.
    context.load_cert_chain(certfile, keyfile, password="")
    return context


@contextmanager
def _on_signals(call: Any) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_: call())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
