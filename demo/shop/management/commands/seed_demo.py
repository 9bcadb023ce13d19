from __future__ import annotations

from datetime import datetime, time, timedelta

from chroniker.models import Job, Maintenance, MaintenanceJob
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from shop import sample
from shop.jobs import create_jobs
from shop.models import Book
from shop.monitors import TILL, create_monitors, ping_url

MAILBOX = "admin@bookshop.example"
"""The email address of the user admin."""
EXPIRED = 2_000
EXPIRING = 2_000


class Command(BaseCommand):
    help = "Create the data of the bookshop that is missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--password", default="bookshop", help="Password of the user admin.")
        parser.add_argument(
            "--quick", action="store_true", help="Use schedules of seconds instead of minutes."
        )

    def handle(self, *args: object, password: str, quick: bool, **options: object) -> None:
        (settings.STATE_DIR / "site-url").write_text(settings.SITE_URL)
        call_command("migrate", verbosity=0)
        admin, _ = get_user_model().objects.get_or_create(
            username="admin", defaults={"is_staff": True, "is_superuser": True}
        )
        admin.set_password(password)
        admin.email = admin.email or MAILBOX
        admin.save(update_fields=["password", "email"])
        if not Book.objects.exists():
            Book.objects.bulk_create(sample.books())
            self._create_sessions()
        if not settings.SALES_FILE.exists():
            yesterday = timezone.localdate() - timedelta(days=1)
            sample.write_sales(settings.SALES_FILE, yesterday)
        jobs = create_jobs(admin, quick=quick)
        monitors = create_monitors(admin, quick=quick)
        # Monitors are measured together on the host, wherever the other jobs run.
        Job.objects.exclude(batch="").update(executor="local")
        if not Maintenance.objects.exists():
            self._create_maintenance_window()
        (settings.STATE_DIR / "till-url").write_text(ping_url())
        self.stdout.write(
            f"{Book.objects.count()} books, {sample.SALES} sales, {jobs} new jobs, "
            f"{monitors} new monitors"
        )

    def _create_maintenance_window(self) -> None:
        """Create a maintenance window: tomorrow at two the tills get new printers."""
        tomorrow = timezone.localdate() + timedelta(days=1)
        starts_at = timezone.make_aware(datetime.combine(tomorrow, time(2)))
        window = Maintenance.objects.create(
            starts_at=starts_at, ends_at=starts_at + timedelta(hours=1), reason="New till printers"
        )
        for job in Job.objects.filter(name__in=("Import sales", TILL)):
            MaintenanceJob.objects.create(maintenance=window, job=job)

    def _create_sessions(self) -> None:
        """Create sessions that have expired, and some that expire during the next hour."""
        now = timezone.now()
        expired = [now - timedelta(minutes=number) for number in range(EXPIRED)]
        expiring = [now + timedelta(hours=1) * number / EXPIRING for number in range(EXPIRING)]
        Session.objects.bulk_create(
            Session(session_key=f"visitor{number:06d}", session_data="", expire_date=moment)
            for number, moment in enumerate([*expired, *expiring])
        )
