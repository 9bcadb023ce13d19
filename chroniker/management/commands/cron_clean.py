"""Delete old runs with their output, and old incidents."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

from django.core.management.base import CommandError, CommandParser

from chroniker.alerting.retention import delete_old_incidents
from chroniker.db.backoff import readable_database_errors
from chroniker.engine.retention import delete_runs
from chroniker.exceptions import ChronikerError
from chroniker.management.base import ChronikerCommand
from chroniker.models import Run


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    if int(text) > 100_000:
        raise argparse.ArgumentTypeError("the maximum is 100000")
    return int(text)


class Command(ChronikerCommand):
    help = (
        "Delete the runs and incidents that ended before the given time. Counters and metrics "
        "are kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("unit", choices=("weeks", "days", "hours", "minutes"))
        parser.add_argument("number", type=_number)

    def handle(
        self, *args: object, unit: str, number: int, verbosity: int, **options: object
    ) -> None:
        before = datetime.now(UTC) - timedelta(**{unit: number})
        try:
            with readable_database_errors():
                deleted = delete_runs(Run.objects.ended_before(before))
                delete_old_incidents(before)
        except ChronikerError as error:
            raise CommandError(str(error)) from error
        if verbosity:
            self.stdout.write(f"Deleted {deleted} runs that ended before {before:%Y-%m-%d %H:%M}Z.")
