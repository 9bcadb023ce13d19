"""One tick: what system cron runs each minute."""

from __future__ import annotations

import gc
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.db.backoff import readable_database_errors
from chroniker.engine.entrypoints import due_jobs, run_single_tick
from chroniker.exceptions import ChronikerError


class Command(BaseCommand):
    help = "Run the jobs that are due, and wait for them. Silent where there is nothing to say."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        super().run_from_argv(argv)
        gc.freeze()  # or the interpreter would look at every object once more before it leaves

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--jobs", default="", metavar="1,2", help="Only these: ids or names, by commas."
        )
        parser.add_argument(
            "--force-run", action="store_true", help="Run them now, whether they are due or not."
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say what is due, in the order of starting."
        )
        parser.add_argument("--sync", action="store_true", help="One after the other.")

    def handle(self, *args: Any, **options: Any) -> None:
        names = [name for name in options["jobs"].split(",") if name.strip()]
        if options["jobs"] and not names:
            raise CommandError("--jobs names no job.")  # which is not the same as all of them
        if options["force_run"] and not names:
            raise CommandError("--force-run needs --jobs, so that it does not run everything.")
        try:
            only = None
            if names:
                from chroniker.engine.claims import find_jobs

                with readable_database_errors():
                    jobs, unknown = find_jobs(names)
                if unknown:
                    raise CommandError(f"There is no job {', '.join(unknown)}.")
                only = frozenset(job.pk for job in jobs)
            if options["dry_run"]:
                for line in due_jobs(only, force=options["force_run"]):
                    self.stdout.write(line)
                return
            run_single_tick(only=only, force=options["force_run"], sync=options["sync"])
        except ChronikerError as error:
            raise CommandError(str(error)) from error
