"""Create or revoke the badge of a job or monitor."""

from __future__ import annotations

from django.core.management.base import CommandError, CommandParser
from django.urls import NoReverseMatch, reverse

from chroniker.alerting.links import site_url
from chroniker.engine.job_names import find_jobs
from chroniker.management.base import ChronikerCommand
from chroniker_monitors.models import Badge


class Command(ChronikerCommand):
    """Create or revoke the badge of a job or monitor."""

    help = (
        "Create a badge that shows the state of a job or monitor to everybody who has its address, "
        "and print the address. --revoke makes the address invalid."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the arguments."""
        parser.add_argument("job", metavar="NAME|ID", help="a job or monitor")
        parser.add_argument("--revoke", action="store_true", help="delete the badge")

    def handle(self, *args: object, job: str, revoke: bool, **options: object) -> None:
        """Create or revoke it."""
        found, unknown = find_jobs([job])
        if unknown:
            raise CommandError(f"There is no job {job}.")
        if revoke:
            deleted, _ = Badge.objects.filter(job=found[0].pk).delete()
            self.stdout.write("Its address is no longer valid." if deleted else "It had no badge.")
            return
        badge, _ = Badge.objects.get_or_create(job_id=found[0].pk)
        try:
            path = reverse("chroniker_monitors:badge_svg", args=(badge.address,))
        except NoReverseMatch as error:
            raise CommandError(
                'Badges need path("", include("chroniker_monitors.urls")) in the root URLconf.'
            ) from error
        self.stdout.write(f"{site_url()}{path}")
