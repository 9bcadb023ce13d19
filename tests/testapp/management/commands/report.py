from __future__ import annotations

import threading
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from chroniker_monitors.probes.reported_readings import report


class Command(BaseCommand):
    help = "Reports what a test wants to a monitor."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("values", nargs="*")
        parser.add_argument("--message", default="")
        parser.add_argument("--thread", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        for text in options["values"]:
            value: Any = text if text == "text" else float(text)
            if options["thread"]:
                thread = threading.Thread(target=report, args=(value, options["message"]))
                thread.start()
                thread.join()
            else:
                report(value, options["message"])
