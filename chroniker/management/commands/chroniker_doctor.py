"""Examine the installation, and say what is wrong and what to do."""

from __future__ import annotations

import sys
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError, CommandParser

from chroniker.alerting.recipients import is_mail_address
from chroniker.doctor.cron_line import crontab_line
from chroniker.doctor.examiner import examine
from chroniker.doctor.findings import Level, worst
from chroniker.doctor.registry import Installation
from chroniker.doctor.report import as_json, as_text
from chroniker.management.base import ChronikerCommand


class Command(ChronikerCommand):
    help = (
        "Examine the installation: database, migrations, settings, ticks, crontab, mail, metrics. "
        "Each finding says what to do. Exits with 0 if nothing is wrong, 1 after a warning, and 2 "
        "after an error."
    )
    requires_system_checks: list[str] = []  # they are part of the report

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON, for machines.")
        parser.add_argument(
            "--send-test", default="", metavar="ADDRESS", help="Send a test email to this address."
        )
        parser.add_argument(
            "--monitoring",
            action="append",
            default=[],
            type=Path,
            metavar="DIR",
            help="A folder that export_monitoring has written: say what is out of date there. Can "
            "be repeated.",
        )
        parser.add_argument(
            "--ignore",
            action="append",
            default=[],
            metavar="ID",
            help="Leave out findings with this id. Can be repeated.",
        )
        parser.add_argument(
            "--crontab",
            action="store_true",
            help="Only print the line for the crontab.",
        )

    def execute(self, *args: object, **options: object) -> str | None:
        """Run without the checks of the other commands, which would hide the other findings."""
        return BaseCommand.execute(self, *args, **options)

    def handle(
        self,
        *args: object,
        json: bool,
        send_test: str,
        monitoring: list[Path],
        ignore: list[str],
        crontab: bool,
        **options: object,
    ) -> None:
        line = crontab_line()
        if crontab:
            self.stdout.write(line)
            return
        if send_test and not is_mail_address(send_test):
            raise CommandError(f"{send_test!r} is not an email address.")
        installation = Installation(test_address=send_test, monitoring_folders=tuple(monitoring))
        findings = [found for found in examine(installation) if found.id not in ignore]
        paint = {
            Level.OK: self.style.SUCCESS,
            Level.WARNING: self.style.WARNING,
            Level.ERROR: self.style.ERROR,
        }
        self.stdout.write(as_json(findings, line) if json else as_text(findings, line, paint))
        if code := worst(findings).exit_code:
            sys.exit(code)
