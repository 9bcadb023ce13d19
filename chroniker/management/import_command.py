"""What the commands that import jobs have in common."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.utils.timezone import now as utc_now

from chroniker.db.alias import database_alias
from chroniker.imports.definitions import NOT_TAKEN_OVER, Import
from chroniker.imports.legacy import Users
from chroniker.imports.report import report
from chroniker.imports.writer import write
from chroniker.management.base import ChronikerCommand


class ImportCommand(ChronikerCommand):
    """A command that reads jobs from a source and creates those that do not exist."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of all imports."""
        parser.add_argument(
            "--dry-run", action="store_true", help="Only print what would be created."
        )

    @abstractmethod
    def read(self, options: Mapping[str, Any]) -> Import:
        """Read the source. Raises ChronikerError."""

    def handle(self, *args: object, dry_run: bool, **options: Any) -> None:
        """Import, and print the report. Exits with 3 if something could not be taken over."""
        result = write(self.read(options), dry_run=dry_run)
        for line in report(result, utc_now(), dry_run=dry_run):
            self.stdout.write(line)
        if result.problems:
            sys.exit(NOT_TAKEN_OVER)


def read_users() -> Users:
    """Return the users of the site."""
    model = get_user_model()
    rows = model._default_manager.using(database_alias()).values_list("pk", model.USERNAME_FIELD)
    found = list(rows)
    return Users({str(pk): pk for pk, _ in found}, {str(name): pk for pk, name in found})
