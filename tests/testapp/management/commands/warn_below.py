from __future__ import annotations

import subprocess
from typing import Any

from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "Lets another program write to stderr."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("words")

    def handle(self, *args: Any, **options: Any) -> None:
        subprocess.run(["sh", "-c", 'echo "$1" >&2', "sh", options["words"]], check=True)
