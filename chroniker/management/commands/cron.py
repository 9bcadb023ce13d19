"""One tick. The system's crontab runs it every minute."""

from __future__ import annotations

import gc

from django.core.management.base import CommandError, CommandParser

from chroniker.db.backoff import readable_database_errors
from chroniker.engine.entrypoints import NotRun, due_jobs, force_jobs, run_single_tick
from chroniker.exceptions import ChronikerError
from chroniker.logs import scheduler_log
from chroniker.management.tick_command import TickCommand


def report_not_run(not_run: NotRun) -> None:
    """Raise CommandError if a job was not run that should have been."""
    if not_run:
        reasons = "; ".join(f"{job.name}: {reason}" for job, reason in not_run)
        raise CommandError(f"{len(not_run)} not run: {reasons}.")


class Command(TickCommand):
    help = "Run the jobs that are due and wait for them. Prints nothing unless there is an error."
    requires_system_checks: list[str] = []

    def run_from_argv(self, argv: list[str]) -> None:
        super().run_from_argv(argv)
        gc.freeze()  # otherwise the interpreter collects every object once more at exit

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--jobs",
            default="",
            metavar="1,2",
            help="Run only these jobs: ids or names, separated by commas.",
        )
        parser.add_argument(
            "--force-run", action="store_true", help="Run them now, even if they are not due."
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Only print what is due, in the order of starting.",
        )
        parser.add_argument("--sync", action="store_true", help="Run the jobs one after the other.")

    def handle(
        self,
        *args: object,
        jobs: str,
        force_run: bool,
        dry_run: bool,
        sync: bool,
        **options: object,
    ) -> None:
        names = [name for name in jobs.split(",") if name.strip()]
        if jobs and not names:
            raise CommandError("--jobs names no job. Give ids or names.")  # empty does not mean all
        if force_run and not names:
            raise CommandError("--force-run needs --jobs, so that it does not run every job.")
        try:
            only = None
            if names:
                from chroniker.engine.job_names import find_jobs

                with readable_database_errors():
                    found, unknown = find_jobs(names)
                if unknown:
                    raise CommandError(f"There is no job {', '.join(unknown)}.")
                only = frozenset(job.pk for job in found)
            if dry_run:
                for line in due_jobs(only, force=force_run):
                    self.stdout.write(line)
                return
            with scheduler_log():
                if force_run:
                    report_not_run(force_jobs(found, sync=sync))
                else:
                    run_single_tick(only=only, sync=sync)
        except ChronikerError as error:
            raise CommandError(str(error), returncode=error.exit_code) from error
