"""Delete old runs and their output, and the incidents of that time."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.alerting.incidents import delete_old
from chroniker.db.backoff import readable_database_errors
from chroniker.engine.retention import delete_runs
from chroniker.exceptions import ChronikerError
from chroniker.models import Run


def _number(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    if int(text) > 100_000:
        raise argparse.ArgumentTypeError("give at most 100000")
    return int(text)


class Command(BaseCommand):
    help = (
        "Delete the runs and incidents that ended longer ago than so much. Counters and metrics "
        "stay."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("unit", choices=("weeks", "days", "hours", "minutes"))
        parser.add_argument("number", type=_number)

    def handle(self, *args: Any, **options: Any) -> None:
        before = datetime.now(UTC) - timedelta(**{options["unit"]: options["number"]})
        try:
            with readable_database_errors():
                deleted = delete_runs(Run.objects.ended_before(before))
                delete_old(before)
        except ChronikerError as error:
            raise CommandError(str(error)) from error
        if options["verbosity"]:
            self.stdout.write(f"Deleted {deleted} runs that ended before {before:%Y-%m-%d %H:%M}Z.")
