"""The outbox: who is told what. Rows are written here, in the transaction that makes them true."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q
from django.db.models.query_utils import DeferredAttribute

from chroniker.conf import conf
from chroniker.enums import NotificationEvent
from chroniker.models import Incident, Job, Notification, Run

logger = logging.getLogger(__name__)

MAIL = "mail"
"""The channel of mails; others are named by their dotted paths."""

_ADDRESS = re.compile(r'[^\s@<>,;:"()\\\[\]]+@[^\s@<>,;:"()\\\[\]]+')
"""Not Django's: a host of an intranet may have no dot in its name."""

Address = tuple[str, str]
"""A channel, and who is told through it: a mail address, or nobody in particular."""


class Hint:
    """Whether this process has written something that could be sent at once."""

    def __init__(self) -> None:
        self._given = False

    def give(self) -> None:
        """Something was written and committed."""
        self._given = True

    def take(self) -> bool:
        """Whether there was since it was taken last."""
        given, self._given = self._given, False
        return given


hint = Hint()


def key_of(
    *,
    incident: int | None,
    run: int | None,
    event: str,
    number: str,
    channel: str,
    recipient: str,
) -> str:
    """What makes a notification this one and no other, as a hash."""
    parts = (incident, run, event, number, channel, recipient.lower())
    return sha256("\0".join(map(str, parts)).encode("utf-8", "backslashreplace")).hexdigest()


def write(
    event: NotificationEvent,
    to: Iterable[Address],
    now: datetime,
    *,
    job: Job | None,
    incident: Incident | None = None,
    run: Run | None = None,
    number: str = "",
    facts: dict[str, Any] | None = None,
) -> int:
    """Put a message for each of ``to`` into the outbox; how many. Call it in a transaction."""
    rows = [
        Notification(
            job=job,
            incident=incident,
            run=run,
            event=event,
            channel=channel,
            recipient=recipient,
            key=key_of(
                incident=incident.pk if incident else None,
                run=run.pk if run and not incident else None,
                event=event,
                number=number,
                channel=channel,
                recipient=recipient,
            ),
            facts=facts or {},
            created_at=now,
            next_attempt_at=now,
        )
        for channel, recipient in to
    ]
    if rows:
        Notification.objects.bulk_create(rows, ignore_conflicts=True)
        transaction.on_commit(hint.give)
    return len(rows)


def addresses(job: Job) -> list[Address]:
    """Who is told of the job's incidents: its subscribers by mail, and every notifier."""
    mail = [(MAIL, address) for address in subscribers(job)] if job.email_on_failure else []
    return mail + [(path, "") for path in dict.fromkeys(conf.NOTIFIERS)]


def subscribers(job: Job) -> list[str]:
    """The mail addresses of the job's subscribers, alone or in groups; each once.

    Of nobody, the site's ADMINS where CHRONIKER_EMAIL_TO_ADMINS says so. Whoever has a digest and
    wants nothing else is not among them.
    """
    model: Any = get_user_model()
    wanted = Q(pk__in=job.subscribers.order_by().values("pk"))
    if hasattr(model, "groups"):  # a site's own users may have neither groups nor is_active
        wanted |= Q(groups__in=job.subscriber_groups.order_by().values("pk"))
    users = model._default_manager.filter(wanted)
    if isinstance(getattr(model, "is_active", None), DeferredAttribute):
        users = users.filter(is_active=True)
    field = model.get_email_field_name()
    found = users.exclude(chroniker_digest__only=True).values_list(field, flat=True)
    known = {address.lower(): address for address in found.distinct() if usable(address)}
    if not known and conf.EMAIL_TO_ADMINS and not users.exists():
        return admins()
    return sorted(known.values())


def admins() -> list[str]:
    """The addresses of settings.ADMINS, in either form that Django takes."""
    entries: list[Any] = list(settings.ADMINS)
    found = [entry if isinstance(entry, str) else entry[-1] for entry in entries]
    return [address for address in found if usable(address)]


def usable(address: str | None) -> bool:
    """Whether mail could be sent to it: what is no address has no place in a header."""
    if not address:
        return False
    if _ADDRESS.fullmatch(address) and address.isprintable() and len(address) <= 254:
        return True
    logger.warning("%r is no mail address; nothing is sent to it", address)
    return False
