"""Mail: whether it can be sent, and whether anybody would receive it."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parseaddr

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage

from chroniker.alerting.links import site_url
from chroniker.alerting.mail import from_address
from chroniker.alerting.mail_backend import connect
from chroniker.conf import conf
from chroniker.models import Job, Notification

from .database import read_database_clock
from .findings import Area, Finding, Level
from .registry import Installation, Needs, examination

_NOT_SENDING = ("console", "dummy", "locmem", "filebased")
_STUCK = timedelta(hours=1)


@examination(Area.MAIL)
def examine_mail(installation: Installation) -> Iterator[Finding]:
    """Check the backend, open its connection, and send a test email if asked to."""
    try:
        backend = connect()
    except (ImproperlyConfigured, ImportError) as error:
        yield Finding(
            Area.MAIL,
            "mail.settings",
            Level.ERROR,
            f"The mail settings cannot be used: {error}",
            "Fix the mail settings of the site (MAILERS, or EMAIL_BACKEND and EMAIL_…).",
        )
        return
    kind = type(backend).__module__.rpartition(".")[2]
    if kind in _NOT_SENDING and type(backend).__module__.startswith("django."):
        yield Finding(
            Area.MAIL,
            "mail.backend",
            Level.WARNING,
            f"The mail backend is {kind!r}, which delivers nothing.",
            "For a site whose alerts somebody should read, use the SMTP backend or that of a "
            "mail service.",
        )
    if parseaddr(from_address())[1] == "webmaster@localhost":
        yield Finding(
            Area.MAIL,
            "mail.sender",
            Level.WARNING,
            "Emails come from webmaster@localhost, Django's default, which many servers reject.",
            "Set DEFAULT_FROM_EMAIL, or CHRONIKER_EMAIL_HOST_USER for the emails of Chroniker.",
        )
    if not site_url():
        yield Finding(
            Area.MAIL,
            "mail.links",
            Level.WARNING,
            "The address of the site is unknown, so emails contain no links.",
            "Set CHRONIKER_SITE_URL, for example to https://www.example.com.",
        )
    try:
        backend.open()
        backend.close()
    except (OSError, smtplib.SMTPException) as error:
        yield Finding(
            Area.MAIL,
            "mail.unreachable",
            Level.ERROR,
            f"The mail server cannot be used: {type(error).__name__}: {error}",
            "Fix EMAIL_HOST, EMAIL_PORT, the login and TLS of the site (MAILERS from Django 6.1), "
            "or start the server.",
        )
        return
    if installation.test_address:
        yield _send_test(installation)
    else:
        yield Finding(
            Area.MAIL,
            "mail",
            Level.OK,
            f"The mail backend {kind!r} can be opened. `--send-test ADDRESS` sends an email.",
        )


def _send_test(installation: Installation) -> Finding:
    address = installation.test_address
    message = EmailMessage(
        subject=f"{conf.EMAIL_SUBJECT_PREFIX}Test email",
        body="This is a test email of `manage.py chroniker_doctor --send-test`.\n"
        f"Host: {conf.HOSTNAME}\nNothing has happened, and there is nothing to do.\n",
        from_email=from_address(),
        to=[address],
        headers={"Auto-Submitted": "auto-generated"},
    )
    try:
        sent = connect().send_messages([message])
    except (OSError, smtplib.SMTPException) as error:
        return Finding(
            Area.MAIL,
            "mail.rejected",
            Level.ERROR,
            f"The test email to {address} was not accepted: {type(error).__name__}: {error}",
            "Check the address, the sender and the login at the mail server.",
        )
    if not sent:
        return Finding(
            Area.MAIL,
            "mail.rejected",
            Level.ERROR,
            f"The mail backend sent no email to {address}, and gave no reason.",
            "Try EMAIL_BACKEND = 'django.core.mail.backends.smtp.EmailBackend'.",
        )
    return Finding(Area.MAIL, "mail", Level.OK, f"A test email was accepted for {address}.")


@examination(Area.MAIL, Needs.TABLES)
def examine_recipients(installation: Installation) -> Iterator[Finding]:
    """Find jobs about whose failures nobody would be notified."""
    if conf.NOTIFIERS or (conf.EMAIL_TO_ADMINS and settings.ADMINS):
        return
    alone = Job.objects.filter(
        enabled=True, subscribers__isnull=True, subscriber_groups__isnull=True
    )
    silent = Job.objects.filter(enabled=True, email_on_failure=False)
    number = (alone | silent).distinct().count()
    if number:
        yield Finding(
            Area.MAIL,
            "mail.nobody",
            Level.WARNING,
            f"Enabled jobs and monitors of which nobody would receive an email: {number}.",
            "Subscribe users or groups to them in the admin, or set CHRONIKER_EMAIL_TO_ADMINS. If "
            "Alertmanager notifies, silence this with --ignore mail.nobody.",
        )


@examination(Area.MAIL, Needs.TABLES)
def examine_outbox(installation: Installation) -> Iterator[Finding]:
    """Find notifications that have been waiting for a long time."""
    before = read_database_clock() - _STUCK
    stuck = Notification.objects.pending().filter(created_at__lt=before)
    number = stuck.count()
    if not number:
        return
    last = stuck.exclude(last_error="").order_by("-pk").first()
    reason = f" The last error: {last.last_error}" if last else ""
    yield Finding(
        Area.MAIL,
        "mail.stuck",
        Level.ERROR,
        f"Notifications that could not be sent for over an hour: {number}.{reason}",
        "Fix the reason. They are sent by the next tick, and dropped after "
        f"{conf.DELIVERY_MAX_AGE_DAYS:g} days (CHRONIKER_DELIVERY_MAX_AGE_DAYS).",
    )
