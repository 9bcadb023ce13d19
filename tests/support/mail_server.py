"""A mail server and a webhook receiver on loopback that record what they get and can misbehave."""

from __future__ import annotations

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import django
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.machine import free_port

_OLD_NAMES = {"username": "HOST_USER", "password": "HOST_PASSWORD"}


def set_mail_options(settings: Any, backend: str = "smtp", **options: Any) -> None:
    """Set what a site of this Django sets to send mail: MAILERS, or before 6.1 EMAIL_HOST etc."""
    path = f"django.core.mail.backends.{backend}.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": path, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = path
        for name, value in options.items():
            setattr(settings, f"EMAIL_{_OLD_NAMES.get(name, name.upper())}", value)


class MailServer:
    """What came, and how the server behaves: ``refuse`` (by recipient or all), ``die`` (hangs up
    after the message was accepted, ``die`` times) or ``silent`` (takes it and says nothing)."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: set[str] = set()
        self.die = 0
        self.silent = False
        self.port = 0

    def reset(self) -> None:
        self.mails.clear()
        self.refuse.clear()
        self.die = 0
        self.silent = False

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        if address in self.refuse or "*" in self.refuse:
            return "451 not today"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        message = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        message.envelope_to = list(envelope.rcpt_tos)  # type: ignore[attr-defined]
        message.raw = content  # type: ignore[attr-defined]
        message.session = session  # type: ignore[attr-defined]
        self.mails.append(message)
        if self.die:
            self.die -= 1
            assert server.transport is not None
            server.transport.abort()
        while self.silent:
            await asyncio.sleep(0.02)
        return "250 OK"

    # --- for looking at ---

    def subjects(self) -> list[str]:
        return [str(mail["Subject"]) for mail in self.mails]

    def event_names(self) -> list[str]:
        """The event of each mail, in the order in which they came."""
        return [str(mail["X-Chroniker-Event"]) for mail in self.mails]

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for mail in self.mails if mail["To"] == address]


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def html_of(message: EmailMessage) -> str:
    body = message.get_body(("html",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


@contextmanager
def run_mail_server() -> Iterator[MailServer]:
    mail_server = MailServer()
    controller = _start(mail_server)
    try:
        yield mail_server
    finally:
        controller.stop()


def _start(mail_server: MailServer, attempts: int = 5) -> Controller:
    """Start on a free port; another process may take it first."""
    for attempt in range(1, attempts + 1):
        mail_server.port = free_port()
        controller = Controller(
            mail_server,
            hostname="127.0.0.1",
            port=mail_server.port,
            ready_timeout=60,
            decode_data=False,
        )
        try:
            controller.start()
        except OSError:
            if attempt == attempts:
                raise
        else:
            return controller
    raise AssertionError("unreachable")


class WebhookReceiver:
    """The posted headers and bodies; ``statuses`` are returned first, then 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.url = ""


@contextmanager
def run_webhook_receiver() -> Iterator[WebhookReceiver]:
    webhook_receiver = WebhookReceiver()

    class WebhookHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook_receiver.requests.append((dict(self.headers.items()), body))
            self.send_response(
                webhook_receiver.statuses.pop(0) if webhook_receiver.statuses else 200
            )
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), WebhookHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    webhook_receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield webhook_receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
