"""Serve the page without a web site: a small threading HTTP server."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, HttpResponseNotAllowed

from chroniker.health.readiness import ReadinessProbe
from chroniker.health.responses import CONTENT_TYPE as HEALTH_TYPE
from chroniker.health.responses import PATHS as HEALTH_PATHS
from chroniker.health.responses import respond as respond_health

from .response import respond

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

PATH = "/metrics"
METHODS = ("GET", "HEAD")
CLIENT_SECONDS = 10
"""Time limit for a client to send its request, and to read the response."""


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """WSGI application: the page at ``/metrics``, with the same access rules as on a web site."""
    response = _answer(WSGIRequest(environ))
    start_response(f"{response.status_code} {response.reason_phrase}", list(response.items()))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.content]


_readiness = ReadinessProbe()


def _answer(request: WSGIRequest) -> HttpResponse:
    if request.path_info in HEALTH_PATHS:
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        # That it answers is its health.
        answer = respond_health(request.path_info, lambda: True, _readiness)
        return HttpResponse(answer.body, status=answer.status, content_type=HEALTH_TYPE)
    if request.path_info != PATH:
        return HttpResponse(
            f"The metrics are at {PATH}.\n", status=404, content_type="text/plain; charset=utf-8"
        )
    if request.method not in METHODS:
        return HttpResponseNotAllowed(METHODS)
    return respond(request)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: there is a scrape every few seconds."""


class MetricsServer(ThreadingMixIn, WSGIServer):
    """One daemon thread per request, so that requests do not delay the shutdown."""

    daemon_threads = True

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind the address. Raises OSError."""
        self.tls = tls
        family, *_, sockaddr = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        super().__init__((str(sockaddr[0]), port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without looking up the name of this machine, which may hang."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection. The request's thread does the TLS handshake, with its timeout."""
        connection, address = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Log at debug level: clients may disconnect or send nothing at any time."""
        logger.debug("A request from %s failed", client_address, exc_info=True)

    @property
    def url(self) -> str:
        """The URL of the page."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{host}:{self.server_port}{PATH}"

    def serve_until_signal(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        with _on_signals(lambda: threading.Thread(target=self.shutdown).start()):
            self.serve_forever()


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 or later. PEM files. Raises OSError or ssl.SSLError."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # An empty password, because OpenSSL would otherwise ask for one at the terminal and hang.
    context.load_cert_chain(certfile, keyfile, password="")
    return context


@contextmanager
def _on_signals(call: Callable[[], object]) -> Iterator[None]:
    before = {
        number: signal.signal(number, lambda *_: call())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
