"""``manage.py add_starter_monitors``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from chroniker_monitors.starters import add_starters


class Command(BaseCommand):
    """Define the monitors that nearly every site wants."""

    help = (
        "Define monitors of disk, memory, database, migrations, failed runs and, with an https "
        "CHRONIKER_SITE_URL, its certificate. One whose name is there already is left as it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them and say which."""
        for added in add_starters():
            word = "made" if added.made else f"not made: {added.why}"
            self.stdout.write(f"{added.starter.name}: {word}")
