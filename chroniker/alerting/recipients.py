"""Who is notified about a job, and through which channel."""

from __future__ import annotations

import logging
import re

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.query_utils import DeferredAttribute

from chroniker.conf import conf
from chroniker.db.alias import database_alias
from chroniker.logs import log_context
from chroniker.models import Job

logger = logging.getLogger(__name__)

MAIL = "mail"
"""The name of the mail channel; the name of any other channel is its dotted path."""

_ADDRESS = re.compile(r'[^\s@<>,;:"()\\\[\]]+@[^\s@<>,;:"()\\\[\]]+')
"""Not Django's pattern: the host of an intranet may have no dot in its name."""

Recipient = tuple[str, str]
"""The name of a channel, and an email address or, for other channels, an empty string."""


def incident_recipients(job: Job) -> list[Recipient]:
    """Who is notified of the job's incidents: its subscribers by email, and every notifier."""
    mail = (
        [(MAIL, address) for address in subscriber_addresses(job)] if job.email_on_failure else []
    )
    return mail + [(path, "") for path in dict.fromkeys(conf.NOTIFIERS)]


def subscriber_addresses(job: Job) -> list[str]:
    """The email addresses of the job's subscribers and subscriber groups, without duplicates.

    Without any subscriber: the site's ADMINS, if CHRONIKER_EMAIL_TO_ADMINS is set. Users with a
    digest that replaces individual emails are left out.
    """
    model = get_user_model()
    subscribed = Q(pk__in=job.subscribers.order_by().values("pk"))
    if hasattr(model, "groups"):  # a custom user model may have neither groups nor is_active
        subscribed |= Q(groups__in=job.subscriber_groups.order_by().values("pk"))
    users = model._default_manager.using(database_alias()).filter(subscribed)
    if isinstance(getattr(model, "is_active", None), DeferredAttribute):
        users = users.filter(is_active=True)
    field = model.get_email_field_name()
    found = users.exclude(chroniker_digest__digest_only=True).values_list(field, flat=True)
    known = {address.lower(): address for address in found.distinct() if is_mail_address(address)}
    if not known and conf.EMAIL_TO_ADMINS and not users.exists():
        return admin_addresses()
    return sorted(known.values())


def admin_addresses() -> list[str]:
    """The addresses of settings.ADMINS, which Django accepts as strings and as pairs."""
    entries: list[str | tuple[str, str]] = list(settings.ADMINS)
    found = [entry if isinstance(entry, str) else entry[-1] for entry in entries]
    return [address for address in found if is_mail_address(address)]


def is_mail_address(address: str | None) -> bool:
    """Whether email can be sent to it; anything else must not get into a header."""
    if not address:
        return False
    if _ADDRESS.fullmatch(address) and address.isprintable() and len(address) <= 254:
        return True
    logger.warning(
        "%r is not an email address; nothing is sent to it", address, extra=log_context()
    )
    return False
