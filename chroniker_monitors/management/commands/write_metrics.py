"""``manage.py write_metrics FILE``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker_monitors.exposition.page import render_chroniker_page
from chroniker_monitors.exposition.textfile import write_atomically


class Command(BaseCommand):
    """Write Chroniker's metrics into a file."""

    help = (
        "Write Chroniker's metrics into a file, at once, for node_exporter's textfile collector. "
        "Its name should end with .prom. The metrics of this process are left out: node_exporter "
        "has some of the same names."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Which file."""
        parser.add_argument("file", type=Path, help="the file to write; replaced as a whole")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        """Write it; it says so itself when the database did not answer."""
        page, up = render_chroniker_page()
        try:
            write_atomically(file, page)
        except OSError as error:
            raise CommandError(f"Cannot write {file}: {error}") from error
        if not up:
            raise CommandError(f"The database did not answer; {file} says so.")
