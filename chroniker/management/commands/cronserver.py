"""Ticks in a loop, for machines without cron: in development and in containers."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import ExitStack

from django.core.management.base import CommandError, CommandParser

from chroniker.conf import conf
from chroniker.engine.scheduler import Scheduler
from chroniker.exceptions import ChronikerError, HostNotReady
from chroniker.logs import log_context, scheduler_log
from chroniker.management.tick_command import TickCommand

logger = logging.getLogger(__name__)


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
        parser.add_argument(
            "--health-port",
            type=int,
            metavar="PORT",
            help="Answer at /health and /ready on this port of all addresses; 0: any free port.",
        )

    def handle(
        self, *args: object, seconds: float, health_port: int | None, **options: object
    ) -> None:
        try:
            with scheduler_log(), ExitStack() as stack:
                self._announce(f"Ticking every {seconds:g} s. Press Ctrl-C to stop.")
                on_pass = None
                if health_port is not None:
                    on_pass = self._start_health(health_port, stack)
                Scheduler(every=seconds, on_pass=on_pass).run()
        except ChronikerError as error:
            raise CommandError(str(error), returncode=error.exit_code) from error

    def _announce(self, text: str) -> None:
        if conf.LOG_JSON:
            logger.info("%s", text, extra=log_context())
        else:
            self.stdout.write(text)
            self.stdout.flush()

    def _start_health(self, port: int, stack: ExitStack) -> Callable[[], None]:
        """Start the process that answers; returns what to call in each pass of the loop."""
        from chroniker.health.server import HealthProcess, LoopClock

        clock = LoopClock()
        try:
            process = HealthProcess(port, clock)
            stack.callback(process.close)
            process.start()
        except (OSError, OverflowError) as error:
            raise HostNotReady(f"Cannot listen on port {port}: {error}") from error
        self._announce(f"Health at port {process.port}: /health, /ready")
        return clock.note_pass
