"""The job of the fault tests: it records its own run outside of the product."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from chroniker.models import Job
from tests.faults.journal import RunLog


class Command(BaseCommand):
    help = "Behave well or badly, and write it down."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("behaviour")
        parser.add_argument("amount", nargs="?", type=float, default=0.0)
        parser.add_argument(
            "--per-host", action="store_true", help="It may run on every host at one time."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        behaviour, amount = options["behaviour"], options["amount"]
        lock = os.environ["CHRONIKER_JOB_NAME"]
        if options["per_host"]:
            lock += f" on {os.environ['CHRONIKER_FAULTS_HOST']}"
        self.book = RunLog(behaviour, lock)
        getattr(self, behaviour)(amount)
        self.book.end(ok=True)

    def quick(self, amount: float) -> None:
        """Nothing."""

    def sleep(self, amount: float) -> None:
        time.sleep(amount)

    def fail(self, amount: float) -> None:
        time.sleep(amount)
        self.book.end(ok=False)
        raise CommandError("failed on request")

    def exit(self, amount: float) -> None:
        self.book.end(ok=False)
        sys.exit(3)

    def ignore_sigterm(self, amount: float) -> None:
        """Ignore SIGTERM."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(amount)

    def daemonize(self, amount: float) -> None:
        """Leave a grandchild in its own session that ignores SIGTERM and holds the lock."""
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                self.book.note("daemon")
                time.sleep(60)
            os._exit(0)
        os.wait()
        time.sleep(amount)

    def flood(self, amount: float) -> None:
        line = "0123456789abcdef" * 63 + "\n"
        for _ in range(int(amount * 1024)):
            sys.stdout.write(line)

    def progress(self, amount: float) -> None:
        for done in range(1, 21):
            Job.update_progress(total_parts=20, total_parts_complete=done)
            time.sleep(amount / 20)

    def print_lines(self, amount: float) -> None:
        """Print a line every tenth of a second."""
        for number in range(max(1, int(amount * 10))):
            sys.stdout.write(f"line {number}\n")
            time.sleep(0.1)

    def write(self, amount: float) -> None:
        """Hold a write transaction; on SQLite no other process can write meanwhile."""
        with transaction.atomic():
            Job.objects.filter(name=os.environ["CHRONIKER_JOB_NAME"]).update(description="written")
            time.sleep(amount)
