"""``manage.py serve_metrics``."""

from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from chroniker.management.base import ChronikerCommand
from chroniker_monitors.exposition.server import MetricsServer, tls_context


class Command(ChronikerCommand):
    """Serve the metrics without a web site."""

    help = "Serve the metrics over HTTP at /metrics, without a web site."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument(
            "--port", type=int, default=9877, help="port to listen on; 0: any free port"
        )
        parser.add_argument("--address", default="127.0.0.1", help="address to listen on")
        parser.add_argument("--certfile", help="certificate for HTTPS (PEM)")
        parser.add_argument(
            "--keyfile", help="private key, if it is not in the file of the certificate"
        )

    def handle(
        self,
        *args: object,
        address: str,
        port: int,
        certfile: str | None,
        keyfile: str | None,
        **options: object,
    ) -> None:
        """Serve until SIGTERM or SIGINT."""
        if keyfile and not certfile:
            raise CommandError("--keyfile requires --certfile.")
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
