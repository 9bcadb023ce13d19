"""Print what a job waits for and what waits for it, with times and the critical path."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.chains import chain_of
from chroniker.claims import jobs_named
from chroniker.exceptions import ChronikerError
from chroniker.patience import database_told_plainly


class Command(BaseCommand):
    help = (
        "The jobs that the job waits for, and those that wait for it, in the order of starting; "
        "with the times that their history makes one expect. * marks the critical path."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", metavar="NAME|ID")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with database_told_plainly():
                jobs, unknown = jobs_named([options["job"]])
                if unknown:
                    raise CommandError(f"There is no job {unknown[0]}.")
                links = chain_of(jobs[0])
        except ChronikerError as error:
            raise CommandError(str(error)) from error
        for link in links:
            seconds = link.expected_seconds
            takes = "time unknown" if seconds is None else f"{seconds:.1f} s"
            after = ", ".join(job.name for job in link.waits_for)
            self.stdout.write(
                f"{'*' if link.critical else ' '} {link.starts:8.1f} s  {link.job.name} ({takes})"
                + (f", after {after}" if after else "")
            )
        path = " → ".join(link.job.name for link in links if link.critical)
        self.stdout.write(
            f"Critical path: {path}; {max(link.ends for link in links):.1f} s in all."
        )
