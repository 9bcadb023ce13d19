"""The mail channel: text and HTML from templates that a site can override."""

from __future__ import annotations

import contextlib
import smtplib
from email.utils import formataddr, parseaddr
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from chroniker.conf import conf
from chroniker.enums import IncidentKind, NotificationEvent
from chroniker.masking import Masker, site_secrets
from chroniker.models import Notification

from .incident_context import MailContext
from .links import site_url
from .mail_backend import connect
from .mail_context import build_context
from .notifiers import ChannelDown, Notifier
from .outbox import notification_key
from .recipients import MAIL
from .rendering import PARTS, render
from .text import one_line

_MAX_SUBJECT_LENGTH = 400


class Mail(Notifier):
    """Sends through the site's mail backend, with one connection for each batch."""

    def __init__(self) -> None:
        self._connection: BaseEmailBackend | None = None
        self._masker = Masker(site_secrets())

    def __exit__(self, *error: object) -> None:
        """Close the connection to the server, whatever its state."""
        if self._connection is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                self._connection.close()

    def send(self, notification: Notification) -> None:
        """Send one email."""
        message = build_mail(notification, self._masker)
        try:
            if self._connection is None:
                self._connection = connect()
                self._connection.open()  # otherwise it is opened and closed for each email
            if not self._connection.send_messages([message]):
                raise OSError("the mail backend sent nothing")
        except ImproperlyConfigured as error:
            raise ChannelDown(f"the mail settings of the site cannot be used: {error}") from error
        except (smtplib.SMTPServerDisconnected, smtplib.SMTPConnectError, TimeoutError) as error:
            raise ChannelDown(f"the mail server closed the connection: {error}") from error
        except smtplib.SMTPAuthenticationError as error:
            raise ChannelDown(f"the mail server rejected the credentials: {error}") from error
        except smtplib.SMTPException:
            raise  # it rejects this email, and may accept another one
        except OSError as error:
            raise ChannelDown(f"the mail server cannot be reached: {error}") from error


def build_mail(notification: Notification, masker: Masker) -> EmailMultiAlternatives:
    """The email of a notification, with the same Message-ID each time it is built."""
    context = build_context(notification, masker)
    subject, text, html = (render(notification, context, part) for part in PARTS)
    subject = one_line(subject, _MAX_SUBJECT_LENGTH)
    message = EmailMultiAlternatives(
        subject=conf.EMAIL_SUBJECT_PREFIX + subject,
        body=text,
        from_email=from_address(),
        to=[notification.recipient],
        headers=_headers(notification, context),
    )
    message.attach_alternative(html, "text/html")
    return message


def from_address() -> str:
    """CHRONIKER_EMAIL_SENDER <CHRONIKER_EMAIL_HOST_USER>; DEFAULT_FROM_EMAIL for what is empty."""
    name, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    if "@" in conf.EMAIL_HOST_USER:
        address = conf.EMAIL_HOST_USER
    return formataddr((conf.EMAIL_SENDER or name, address))


def domain() -> str:
    """The domain that identifies this site in headers; the same on every host."""
    host = urlsplit(site_url()).hostname
    return host or from_address().rpartition("@")[2].strip(">") or "localhost"


def _headers(notification: Notification, context: MailContext) -> dict[str, str]:
    site = domain()
    headers = {
        "Message-ID": f"<{notification.key[:40]}@{site}>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "All",
        "X-Chroniker-Event": str(notification.event),
    }
    if notification.job is not None:
        headers["List-Id"] = f"<job-{notification.job.pk}.chroniker.{site}>"
    else:
        headers["List-Id"] = f"<{notification.event}.chroniker.{site}>"
    optional = {
        "X-Chroniker-Job": one_line(context["job_name"], 150),
        "X-Chroniker-Host": context.get("placement"),
        "X-Chroniker-Kind": context.get("kind"),
        "X-Chroniker-Severity": context["severity"],
        "X-Chroniker-Team": context["team"],
    }
    if notification.incident is not None and notification.incident.kind == IncidentKind.HOST:
        optional["X-Chroniker-Host"] = context["subject"]
    headers |= {name: str(value) for name, value in optional.items() if value}
    if notification.incident_id is not None and notification.event != NotificationEvent.OPENED:
        opening = f"<{_opening_key(notification)[:40]}@{site}>"
        headers["In-Reply-To"] = headers["References"] = opening
    return headers


def _opening_key(notification: Notification) -> str:
    """The key of the message in which the recipient read of the opening first."""
    key = notification_key(
        incident=notification.incident_id,
        run=None,
        event=NotificationEvent.OPENED,
        discriminator="",
        channel=MAIL,
        recipient=notification.recipient,
    )
    bundles = Notification.objects.filter(key=key, bundle__isnull=False)
    return bundles.values_list("bundle__key", flat=True).first() or key
