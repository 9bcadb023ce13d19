"""What all commands have in common: an error of the site is one line, and no traceback."""

from __future__ import annotations

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from chroniker import prometheus_files
from chroniker.db.backoff import readable_database_errors
from chroniker.exceptions import ChronikerError, HostNotReady


class ChronikerCommand(BaseCommand):
    """A command whose errors are one line: the database is away, or the site is misconfigured."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run in a process of its own."""
        prometheus_files.remove_own_files()
        try:
            super().run_from_argv(argv)
        finally:
            prometheus_files.remove_own_files()

    def execute(self, *args: object, **options: object) -> str | None:
        """Check the site, then run the command. Raises CommandError."""
        try:
            if not settings.USE_TZ:
                raise HostNotReady(
                    "Chroniker needs time zones: set USE_TZ = True in the settings "
                    "(chroniker.E006)."
                )
            with readable_database_errors():
                return super().execute(*args, **options)
        except ChronikerError as error:
            refusal = self.refuse(str(error), **options)
            refusal.returncode = max(refusal.returncode, error.exit_code)
            raise refusal from error

    def refuse(self, reason: str, **options: object) -> CommandError:
        """Return the exception for an error of the site."""
        return CommandError(reason)
