"""``manage.py check_monitor NAME``."""

from __future__ import annotations

import os
import sys

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now as utc_now

from chroniker.management.base import ChronikerCommand
from chroniker_monitors.checking.check import check_monitor
from chroniker_monitors.enums import Severity
from chroniker_monitors.models import Monitor


class Command(ChronikerCommand):
    """Measure one monitor now."""

    help = (
        "Measure a monitor, record it, and print value, severity and message. Exits with 0 (ok), "
        "1 (warning), 2 (critical) or 3 (unknown), like a Nagios plugin. In a run of the scheduler "
        "it exits with 0 if it could measure."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("name", nargs="?", metavar="NAME", help="name of the monitor")
        which.add_argument("--job-id", type=int, metavar="KEY", help="primary key of the monitor")
        parser.add_argument("--dry-run", action="store_true", help="measure without recording")

    def refuse(self, reason: str, **options: object) -> CommandError:
        """Outside a run, print a line for Nagios and exit with 3 (unknown), not 1 (warning)."""
        if os.environ.get("CHRONIKER_RUN_ID"):
            return super().refuse(reason, **options)
        self.stdout.write(f"{options.get('name') or 'Monitor'} UNKNOWN: {reason}")
        sys.exit(int(Severity.UNKNOWN))

    def handle(
        self, *args: object, name: str | None, job_id: int | None, dry_run: bool, **options: object
    ) -> None:
        """Measure, print the result, and exit with the severity."""
        wanted: dict[str, object] = {"pk": job_id} if name is None else {"name": name}
        try:
            monitor = Monitor.objects.select_related("probe").get(**wanted)
        except Monitor.DoesNotExist:
            which = f"with the primary key {job_id}" if name is None else f"named {name!r}"
            raise CommandError(f"There is no monitor {which}.", returncode=3) from None
        result = check_monitor(monitor, now=utc_now(), dry_run=dry_run)
        self.stdout.write(result.line)
        if not result.in_run:
            sys.exit(int(result.measurement.severity))
        if result.measurement.error:
            raise CommandError(result.measurement.error)
