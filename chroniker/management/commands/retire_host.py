"""Retire a host that is gone."""

from __future__ import annotations

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now as utc_now

from chroniker.db.backoff import readable_database_errors
from chroniker.engine.retirement import retire_host, retirement_warnings
from chroniker.exceptions import ChronikerError
from chroniker.management.base import ChronikerCommand
from chroniker.models import Host


class Command(ChronikerCommand):
    help = (
        "Retire a host that is gone: it leaves metrics, lists and alerts, and its incidents are "
        "closed. If it ticks again, it is back with its counters."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="The name of the host.")

    def handle(self, *args: object, name: str, **options: object) -> None:
        now = utc_now()
        try:
            with readable_database_errors():
                host = Host.objects.filter(name=name).first()
                if host is None:
                    raise CommandError(f"There is no host named {name!r}.")
                retired = retire_host(name, now)
                warnings = retirement_warnings(host, now)
        except ChronikerError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{name} is retired." if retired else f"{name} was retired already.")
        for warning in warnings:
            self.stderr.write(self.style.WARNING(warning))
