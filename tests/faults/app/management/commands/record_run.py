"""The job of the fault tests: it records its own run outside of the product."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, transaction
from django.db.models import QuerySet

from chroniker.db.transactions import run_transaction
from chroniker.models import Job
from tests.faults.current import ALIAS
from tests.faults.journal import RunLog
from tests.faults.site import note_left_setting


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
        with transaction.atomic(using=ALIAS):
            Job.objects.filter(name=os.environ["CHRONIKER_JOB_NAME"]).update(description="written")
            time.sleep(amount)

    def query(self, amount: float) -> None:
        """Read and write as a job of the site does, over the site's way to its database."""
        mine = Job.objects.filter(name=os.environ["CHRONIKER_JOB_NAME"])
        end = time.monotonic() + amount
        try:
            while time.monotonic() < end:
                written = f"run {os.environ['CHRONIKER_RUN_ID']} at {time.monotonic()}"
                run_transaction(partial(self._write_description, mine, written))
                if mine.get().description != written:
                    self.book.note("query_failed", error="it read something else than it wrote")
                time.sleep(0.1)
        except Error as error:
            self.book.note("query_failed", error=repr(error))
            raise

    def _write_description(self, mine: QuerySet[Job], text: str) -> None:
        """In a transaction, which is repeated after a deadlock with the scheduler."""
        mine.update(description=text)
        note_left_setting(self.book.note, "a job")
