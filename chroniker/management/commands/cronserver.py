"""Ticks in a loop, for machines without cron: in development and in containers."""

from __future__ import annotations

import argparse

from django.core.management.base import CommandError, CommandParser

from chroniker.engine.scheduler import Scheduler
from chroniker.exceptions import ChronikerError
from chroniker.management.tick_command import TickCommand


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0.05 <= seconds <= 86400:
        raise argparse.ArgumentTypeError("must be between 0.05 and 86400 seconds")
    return seconds


class Command(TickCommand):
    help = (
        "Tick in a loop until SIGTERM. It then waits for the running jobs, and stops those that "
        "are still running after the grace time."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "seconds",
            nargs="?",
            type=_seconds,
            default=60.0,
            help="Time between ticks; default: 60.",
        )

    def handle(self, *args: object, seconds: float, **options: object) -> None:
        self.stdout.write(f"Ticking every {seconds:g} s. Press Ctrl-C to stop.")
        try:
            Scheduler(every=seconds).run()
        except ChronikerError as error:
            raise CommandError(str(error)) from error
