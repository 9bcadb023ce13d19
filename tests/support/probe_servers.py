"""Real servers on loopback: configurable HTTP, TLS, and sockets that misbehave."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
DAY = datetime.timedelta(days=1)


# --- certificates ---------------------------------------------------------------------------


@dataclass
class CertificateAuthority:
    """A certificate authority for tests."""

    directory: Path
    name: str = "Tests' authority"
    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.certificate = self._sign(self.name, self.key, days=3650, authority=True)
        self.path.write_bytes(_pem(self.certificate))

    @property
    def path(self) -> Path:
        return self.directory / "authority.pem"

    def _sign(
        self, name: str, key: Key, *, days: float, authority: bool = False, hosts: str = ""
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names: list[x509.GeneralName] = []
        for host in hosts.split():
            with contextlib.suppress(ValueError):
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
                continue
            names.append(x509.DNSName(host))
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 400 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
        )
        if authority:
            usage = [False] * 9
            usage[5] = usage[6] = True  # to sign certificates and revocation lists
            builder = builder.add_extension(x509.KeyUsage(*usage), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def intermediate(self, days: float) -> CertificateAuthority:
        """An intermediate authority signed by this one."""
        below = CertificateAuthority(self.directory, "Between")
        self.path.write_bytes(_pem(self.certificate))
        below.certificate = self._sign(below.name, below.key, days=days, authority=True)
        return below

    def issue(self, days: float, hosts: str = "localhost 127.0.0.1") -> ssl.SSLContext:
        """A server context with a certificate that expires in ``days``."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign("server", key, days=days, hosts=hosts)
        path = self.directory / f"server-{certificate.serial_number}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        chain = _pem(certificate)
        if self.certificate.issuer != self.certificate.subject:
            chain += _pem(self.certificate)
        path.write_bytes(private + chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


# --- HTTP -----------------------------------------------------------------------------------


@dataclass
class WebServer:
    """The responses of a server by path, and the requests it got."""

    url: str = ""
    port: int = 0
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, status: int = 200, body: bytes = b"hello", **headers: str) -> str:
        """Set the response of a path; its URL."""
        self.answers[path] = (status, headers, body)
        return self.url + path


def _handler(web_server: WebServer) -> type[BaseHTTPRequestHandler]:
    class WebHandler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            web_server.requests.append((self.command, self.path, dict(self.headers)))
            status, headers, body = web_server.answers.get(self.path, (404, {}, b"nothing here"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return WebHandler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients that hang up are what is tested


class _Server6(_Server):
    address_family = socket.AF_INET6


def has_ipv6() -> bool:
    """Whether loopback has an IPv6 address."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@contextlib.contextmanager
def serve_http(
    context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Iterator[WebServer]:
    """A web server; with TLS if there is a context."""
    web_server = WebServer()
    server = (_Server6 if ":" in host else _Server)((host, 0), _handler(web_server))
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    web_server.port = server.server_address[1]
    web_server.url = f"{'https' if context else 'http'}://localhost:{web_server.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web_server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- sockets that misbehave -----------------------------------------------------------------


@contextlib.contextmanager
def serve_socket(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[int]:
    """A port of loopback where each client gets ``talk(connection, over)`` in a thread."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            talk(connection, over)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(30)
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            for thread in threads:
                thread.join()


def send_nothing(connection: socket.socket, over: threading.Event) -> None:
    """Accept and send nothing."""
    over.wait(60)


def send_slow_body(connection: socket.socket, over: threading.Event) -> None:
    """Send single bytes, each within the timeout of a read."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b".")


def send_slow_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not over.wait(0.05):
        connection.sendall(b".")


def send_endless_body(connection: socket.socket, over: threading.Event) -> None:
    """Announce a gigabyte and send as much as the client reads."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
    block = b"x" * 65536
    for _ in range(16384):
        if over.is_set():
            break
        connection.sendall(block)


def close_immediately(connection: socket.socket, over: threading.Event) -> None:
    """Send something that is not HTTP."""
    connection.recv(4096)
    connection.sendall(b"220 mail.example.org ESMTP\r\n")
