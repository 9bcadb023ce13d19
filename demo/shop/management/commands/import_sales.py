from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from shop.sales import import_sales


class Command(BaseCommand):
    help = "Import a CSV file of sales. Malformed rows are reported and skipped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=settings.SALES_FILE)

    def handle(self, *args: object, file: Path, **options: object) -> None:
        try:
            result = import_sales(file, self.stderr.write)
        except OSError as error:
            raise CommandError(f"The sales cannot be read: {error}") from error
        self.stdout.write(
            f"{file.name}: {result.new} new sales, {result.known} known, "
            f"{result.malformed} malformed rows"
        )
        if result.malformed and not result.new + result.known:
            raise CommandError("No row could be read. Check that this is a file of sales.")
