"""``manage.py serve_metrics``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker_monitors.exposition.server import MetricsServer, tls_context


class Command(BaseCommand):
    """Serve the page without a web site."""

    help = "Serve the metrics over HTTP at /metrics, without a web site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--port", type=int, default=9877, help="0: any that is free")
        parser.add_argument("--address", default="127.0.0.1", help="of this machine, to listen on")
        parser.add_argument("--certfile", help="serve HTTPS with this certificate (PEM)")
        parser.add_argument("--keyfile", help="its key, where the certificate's file has none")

    def handle(
        self,
        *args: Any,
        address: str,
        port: int,
        certfile: str | None,
        keyfile: str | None,
        **options: Any,
    ) -> None:
        """Serve until SIGTERM or SIGINT."""
        if keyfile and not certfile:
            raise CommandError("--keyfile needs --certfile.")
        try:
            tls = tls_context(certfile, keyfile) if certfile else None
        except (OSError, ValueError) as error:
            raise CommandError(f"Cannot use {certfile} for TLS: {error}") from error
        try:
            server = MetricsServer(address, port, tls)
        except (OSError, OverflowError) as error:
            raise CommandError(f"Cannot listen on {address}, port {port}: {error}") from error
        with server:
            self.stdout.write(f"Serving metrics at {server.url}")
            self.stdout.flush()
            server.serve_until_signal()
