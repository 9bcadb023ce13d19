"""Send a test notification through each channel, and say which ones work."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.timezone import now as utc_now

from chroniker.alerting.recipients import (
    APPRISE,
    MAIL,
    Recipient,
    admin_addresses,
    all_apprise_urls,
    apprise_urls,
    is_mail_address,
    subscriber_addresses,
)
from chroniker.alerting.text import one_line
from chroniker.alerting.trial import send_test
from chroniker.conf import conf
from chroniker.management.base import ChronikerCommand
from chroniker.models import Job


def _address(text: str) -> str:
    if not is_mail_address(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an email address")
    return text


class Command(ChronikerCommand):
    help = (
        "Send a test notification at once: to every notifier and Apprise URL, and by email to the "
        "given addresses, or else to ADMINS. Exits with 1 if one of them was not delivered."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--to", metavar="ADDRESS", action="append", type=_address, default=[],
            help="send the email to this address; may be repeated",
        )  # fmt: skip
        chosen = parser.add_mutually_exclusive_group()
        chosen.add_argument("--job", metavar="NAME", help="whoever is notified of this job")
        chosen.add_argument("--team", help="only the Apprise URLs for all and for this team")

    def handle(self, *args: Any, **options: Any) -> None:
        recipients = _recipients(options["to"], options["job"], options["team"])
        if not recipients:
            raise CommandError(
                "There is nobody to notify. Give an address with --to, or set ADMINS, "
                "CHRONIKER_NOTIFIERS or CHRONIKER_APPRISE_URLS."
            )
        failed = 0
        for result in send_test(recipients, utc_now()):
            name = f"{result.channel} {result.recipient}".strip()
            if result.error:
                failed += 1
                self.stdout.write(f"{name}: failed. {one_line(result.error, 500)}")
            else:
                self.stdout.write(f"{name}: sent")
        if failed:
            raise CommandError(f"{failed} of {len(recipients)} could not be delivered.")


def _recipients(to: list[str], job_name: str | None, team: str | None) -> list[Recipient]:
    urls = all_apprise_urls()
    addresses = to
    if job_name is not None:
        job = Job.objects.filter(name=job_name).first()
        if job is None:
            raise CommandError(f"There is no job named {job_name!r}.")
        urls = apprise_urls([job.team])
        if job.email_on_failure:
            addresses = [*to, *subscriber_addresses([job.pk])]
    elif team is not None:
        urls = apprise_urls([team])
    elif not to:
        addresses = admin_addresses()
    mail = [(MAIL, address) for address in dict.fromkeys(addresses)]
    apprise = [(APPRISE, label) for label in urls]
    return mail + apprise + [(path, "") for path in dict.fromkeys(conf.NOTIFIERS)]
