"""Print the upstream and downstream jobs of a job, with times and the critical path."""

from __future__ import annotations

from django.core.management.base import CommandError, CommandParser

from chroniker.db.backoff import readable_database_errors
from chroniker.engine.chains import build_chain
from chroniker.engine.job_names import find_jobs
from chroniker.exceptions import ChronikerError
from chroniker.management.base import ChronikerCommand


class Command(ChronikerCommand):
    help = (
        "Print the jobs that a job waits for, and those that wait for it, in the order of "
        "starting, with the times expected from their history. * marks the critical path."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("job", metavar="NAME|ID")

    def handle(self, *args: object, job: str, **options: object) -> None:
        try:
            with readable_database_errors():
                jobs, unknown = find_jobs([job])
                if unknown:
                    raise CommandError(f"There is no job {unknown[0]}.")
                steps = build_chain(jobs[0])
        except ChronikerError as error:
            raise CommandError(str(error)) from error
        for step in steps:
            seconds = step.expected_seconds
            takes = "time unknown" if seconds is None else f"{seconds:.1f} s"
            after = ", ".join(upstream.name for upstream in step.upstream_jobs)
            self.stdout.write(
                f"{'*' if step.critical else ' '} {step.starts:8.1f} s  {step.job.name} ({takes})"
                + (f", after {after}" if after else "")
            )
        path = " → ".join(step.job.name for step in steps if step.critical)
        self.stdout.write(
            f"Critical path: {path}; {max(step.ends for step in steps):.1f} s in total."
        )
