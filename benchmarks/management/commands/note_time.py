"""The job that benchmarks.server measures."""

from __future__ import annotations

import time
from pathlib import Path

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Append the time (CLOCK_MONOTONIC) to a file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", type=Path)

    def handle(self, *args: object, path: Path, **options: object) -> None:
        with path.open("a") as file:
            file.write(f"{time.monotonic()}\n")
