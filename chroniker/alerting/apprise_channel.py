"""Chat, pager and push services through Apprise (the extra ``apprise``).

``CHRONIKER_APPRISE_URLS`` says where messages are sent. A URL contains secrets, so what is stored
and shown is a label of it; see :func:`.recipients.apprise_label`.
"""

from __future__ import annotations

import io
import logging

from chroniker.enums import NotificationEvent, Severity
from chroniker.exceptions import ChronikerError
from chroniker.masking import Masker, site_secrets
from chroniker.models import Notification

from .mail_context import build_context
from .notifiers import ChannelDown, Notifier
from .recipients import all_apprise_urls
from .rendering import SUBJECT, TEXT, render
from .text import one_line

_MAX_TITLE_LENGTH = 250
_MAX_BODY_LENGTH = 4000
"""Apprise splits longer ones into several messages."""


class NotAccepted(ChronikerError):
    """The service did not accept the message."""


class AppriseChannel(Notifier):
    """Sends each notification to the URL that its recipient names."""

    def __init__(self) -> None:
        self._masker = Masker(site_secrets())

    def send(self, notification: Notification) -> None:
        """Send one message.

        Raises NotAccepted, and ChannelDown if Apprise is not installed.
        """
        try:
            import apprise
        except ImportError as error:
            raise ChannelDown("Apprise is not installed: install chroniker[apprise]") from error
        url = all_apprise_urls().get(notification.recipient)
        if url is None:
            raise NotAccepted(f"{notification.recipient} is not in CHRONIKER_APPRISE_URLS")
        target = apprise.Apprise()
        if not target.add(url):
            raise NotAccepted(f"Apprise does not accept the URL of {notification.recipient}")
        title, body = build_message(notification, self._masker)
        kind = _notify_type(notification)
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        handler.setLevel(logging.WARNING)  # below are the URLs of the services, with their tokens
        library = logging.getLogger("apprise")
        library.addHandler(handler)
        try:
            sent = target.notify(title=title, body=body, notify_type=kind, body_format="text")
        finally:
            library.removeHandler(handler)
        if not sent:
            text = log.getvalue().replace(url, notification.recipient)
            reason = one_line(self._masker.mask_text(text), 300)
            raise NotAccepted(f"{notification.recipient}: {reason or 'no reason given'}")


def build_message(notification: Notification, masker: Masker) -> tuple[str, str]:
    """The title and the body: those of the email, in plain text."""
    context = build_context(notification, masker)
    subject, text = (render(notification, context, part) for part in (SUBJECT, TEXT))
    return one_line(subject, _MAX_TITLE_LENGTH), text[:_MAX_BODY_LENGTH]


def _notify_type(notification: Notification) -> str:
    """The type of Apprise, which chooses a colour and a sign."""
    if notification.event in (NotificationEvent.RESOLVED, NotificationEvent.CLOSED):
        return "success"
    members = notification.facts.get("members", [notification.facts])
    severities = [Severity(member["severity"]) for member in members if "severity" in member]
    worst = max(severities, key=lambda severity: severity.rank, default=Severity.INFO)
    return {Severity.CRITICAL: "failure", Severity.WARNING: "warning"}.get(worst, "info")
