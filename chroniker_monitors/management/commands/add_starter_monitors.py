"""``manage.py add_starter_monitors``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from chroniker_monitors.presets import add_presets


class Command(BaseCommand):
    """Define the monitors that nearly every site wants."""

    help = (
        "Define monitors of disk, memory, database, migrations, failed runs and, with an https "
        "CHRONIKER_SITE_URL, its certificate. One whose name is there already is left as it is."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make them and say which."""
        for result in add_presets():
            word = "made" if result.created else f"not made: {result.reason}"
            self.stdout.write(f"{result.preset.name}: {word}")
