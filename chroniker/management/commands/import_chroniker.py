"""Take over the jobs of django-chroniker from a dump."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now as utc_now

from chroniker.imports.definitions import Import
from chroniker.imports.dump import read_dump
from chroniker.imports.legacy import Site, translate
from chroniker.management.import_command import ImportCommand, read_users
from chroniker.models.job import site_timezone


class Command(ImportCommand):
    help = (
        "Take over jobs, dependencies, monitors and logs of django-chroniker from a dump. Existing "
        "jobs are left as they are. Exits with 3 if something could not be taken over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "dump", metavar="DUMP.json", help="What dumpdata has written; - is the standard input."
        )
        parser.add_argument(
            "--without-history", action="store_true", help="Do not take over the logs."
        )

    def read(self, options: Mapping[str, Any]) -> Import:
        dump: str = options["dump"]
        try:
            if dump == "-":
                found = read_dump(sys.stdin)
            else:
                with open(dump, encoding="utf-8") as file:
                    found = read_dump(file)
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{dump} cannot be read: {error}") from error
        site = Site(
            utc_now(), site_timezone(), read_users(), history=not options["without_history"]
        )
        return translate(found, site)
