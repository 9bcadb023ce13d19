"""``manage.py add_starter_monitors``."""

from __future__ import annotations

from chroniker.management.base import ChronikerCommand
from chroniker_monitors.presets import add_presets


class Command(ChronikerCommand):
    """Create the monitors that most sites want."""

    help = (
        "Create monitors of disk, memory, database, migrations, failed runs and, if "
        "CHRONIKER_SITE_URL is https, its certificate. Existing jobs are not changed."
    )

    def handle(self, *args: object, **options: object) -> None:
        """Create them and print which."""
        for result in add_presets():
            outcome = "created" if result.created else f"not created: {result.reason}"
            self.stdout.write(f"{result.preset.name}: {outcome}")
