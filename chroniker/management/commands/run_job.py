"""Run jobs now and print their output."""

from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from chroniker.db.backoff import readable_database_errors
from chroniker.engine.completion import FinishedRun
from chroniker.engine.entrypoints import run_jobs
from chroniker.engine.job_names import find_jobs
from chroniker.enums import RunStatus
from chroniker.exceptions import ChronikerError
from chroniker.management.tick_command import TickCommand
from chroniker.models import OutputChunk


class Command(TickCommand):
    help = (
        "Run jobs now, even if they are not due or not enabled. A job that is already running is "
        "not started again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("jobs", nargs="+", metavar="NAME|ID")
        parser.add_argument("-q", "--quiet", action="store_true", help="Do not show the output.")

    def handle(self, *args: object, jobs: list[str], quiet: bool, **options: object) -> None:
        failed = 0

        def show(ended: FinishedRun) -> None:
            nonlocal failed
            outcome = ended.outcome
            failed += outcome.status != RunStatus.SUCCEEDED
            if not quiet:
                for chunk in OutputChunk.objects.filter(run=ended.run).order_by("id"):
                    (self.stdout if chunk.stream == "stdout" else self.stderr).write(
                        chunk.text, ending=""
                    )
            seconds = "" if outcome.seconds is None else f" after {outcome.seconds:.2f} s"
            reason = f": {outcome.error}" if outcome.error else ""
            if ended.unrecorded_reason:
                reason += f" Nothing was recorded: {ended.unrecorded_reason}"
            self.stdout.write(f"{ended.job.name}: {outcome.status}{seconds}{reason}")

        try:
            with readable_database_errors():
                found, unknown = find_jobs(jobs)
                if unknown:
                    raise CommandError(f"There is no job {', '.join(unknown)}.")
                not_run = run_jobs(found, show)
        except ChronikerError as error:
            raise CommandError(str(error), returncode=error.exit_code) from error
        for job, reason in not_run:
            self.stderr.write(f"{job.name}: not run: {reason}")
        if failed or not_run:
            raise CommandError(f"{failed} failed, {len(not_run)} not run.")
