"""``manage.py write_metrics FILE``."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import CommandError, CommandParser

from chroniker.files import READABLE, write_atomically
from chroniker.management.base import ChronikerCommand
from chroniker_monitors.exposition.page import render_chroniker_page


class Command(ChronikerCommand):
    """Write Chroniker's metrics to a file."""

    help = (
        "Write Chroniker's metrics to a file, atomically, for the textfile collector of "
        "node_exporter. The name of the file should end with .prom. Process metrics are omitted, "
        "because node_exporter uses some of the same names."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("file", type=Path, help="file to replace")

    def handle(self, *args: object, file: Path, **options: object) -> None:
        """Write the file. It contains chroniker_collector_up 0 if the database did not answer."""
        page, up = render_chroniker_page()
        try:
            write_atomically(file, page, mode=READABLE)
        except OSError as error:
            raise CommandError(f"Cannot write {file}: {error}") from error
        if not up:
            raise CommandError(f"The database did not answer; {file} says so.")
