"""Ticks in a loop, where there is no system cron: in development and in containers."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.engine.scheduler import Scheduler
from chroniker.exceptions import ChronikerError


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0.05 <= seconds <= 86400:
        raise argparse.ArgumentTypeError("give 0.05 to 86400 seconds")
    return seconds


class Command(BaseCommand):
    help = (
        "Tick every so many seconds until SIGTERM, which waits for the jobs that run and stops "
        "them after their grace time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("seconds", nargs="?", type=_seconds, default=60.0)

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Ticking every {options['seconds']:g} s; end with Ctrl-C.")
        try:
            Scheduler(every=options["seconds"]).run()
        except ChronikerError as error:
            raise CommandError(str(error)) from error
