"""Take over the lines of a crontab."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser

from chroniker.doctor.cron_line import project_directory
from chroniker.imports.crontab import read_crontab
from chroniker.imports.definitions import Import
from chroniker.management.import_command import ImportCommand
from chroniker.models.job import site_timezone


class Command(ImportCommand):
    help = (
        "Take over the lines of a crontab as jobs. Existing jobs are left as they are. Exits with "
        "3 if something could not be taken over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "file", metavar="FILE", help="A file, or - for the standard input (crontab -l)."
        )
        parser.add_argument(
            "--with-user",
            action="store_true",
            help="The lines name a user, as in /etc/crontab and /etc/cron.d.",
        )
        parser.add_argument(
            "--timezone",
            default="",
            metavar="ZONE",
            help="The time zone of the machine; default: TIME_ZONE of the site.",
        )

    def read(self, options: Mapping[str, Any]) -> Import:
        file: str = options["file"]
        try:
            if file == "-":
                text = sys.stdin.read()
            else:
                with open(file, encoding="utf-8") as source:
                    text = source.read()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} cannot be read: {error}") from error
        return read_crontab(
            text,
            zone=options["timezone"] or site_timezone(),
            has_user=options["with_user"],
            project=project_directory(),
        )
