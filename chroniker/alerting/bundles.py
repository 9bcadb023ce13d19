"""Bundles: many notifications of one event to one recipient, in one message.

The notifications remain rows of their own. They are sent when their bundle is, so that it is known
for each incident who was notified of it.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from functools import partial
from hashlib import sha256

from django.db.models import Count

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.models import Notification
from chroniker.models.notification import NotificationQuerySet

from .holding import BUNDLED_CHANNELS, BUNDLED_EVENTS, STORM
from .relevance import Drop, check_relevance

MAX_MEMBERS = 1000
"""The maximum of one bundle; the rest is in the next one."""


def form_bundles(now: datetime) -> int:
    """Combine what is due wherever a recipient would get too many messages; returns how many."""
    groups = (
        _unbundled()
        .due(now)
        .order_by()
        .values("channel", "recipient", "event")
        .annotate(number=Count("pk"))
        .filter(number__gt=1)
    )
    formed = 0
    for row in list(groups):
        number = row["number"]
        group = {name: row[name] for name in ("channel", "recipient", "event")}
        if number <= conf.STORM_INCIDENTS:
            recent = Notification.objects.filter(
                **group, incident__isnull=False, created_at__gt=now - STORM
            )
            number = recent.count()
        if number > conf.STORM_INCIDENTS:
            formed += run_transaction(partial(_form, group, now))
    return formed


def _unbundled() -> NotificationQuerySet:
    """What no process has tried to send, and may be bundled."""
    return Notification.objects.pending().filter(
        channel__in=BUNDLED_CHANNELS,
        event__in=BUNDLED_EVENTS,
        incident__isnull=False,
        attempts=0,
        bundle=None,
        claim_token="",
    )


def _form(group: dict[str, str], now: datetime) -> int:
    bundle = Notification.objects.create(
        event=NotificationEvent.BUNDLE,
        channel=group["channel"],
        recipient=group["recipient"],
        key=secrets.token_hex(32),  # until the members are known
        created_at=now,
        next_attempt_at=now,
    )
    # Those that are held back as well: they would be the next message.
    found = _unbundled().filter(**group).select_related("incident").order_by("pk")[:MAX_MEMBERS]
    keys = [one.pk for one in found if _is_ready(one, now)]
    # Conditional: another sender process may have taken some.
    _unbundled().filter(pk__in=keys).update(bundle=bundle, next_attempt_at=None)
    members = Notification.objects.filter(bundle=bundle).order_by("pk")
    listed = [_entry(member) for member in members.select_related("incident")]
    if len(listed) < 2:
        members.update(bundle=None, next_attempt_at=now)
        bundle.delete()
        return 0
    digest = sha256("".join(member.key for member in members).encode()).hexdigest()
    bundle.key, bundle.facts = digest, {"event": group["event"], "members": listed}
    bundle.save(update_fields=["key", "facts"])
    return 1


def _entry(member: Notification) -> dict[str, object]:
    incident = member.incident
    assert incident is not None
    return {
        **member.facts,
        "incident": incident.pk,
        "kind": incident.kind,
        "host": incident.host,
        "opened_at": incident.opened_at.isoformat(),
    }


def _is_ready(notification: Notification, now: datetime) -> bool:
    """Whether it should be sent now: a recovery waits for its opening, and some are obsolete."""
    match check_relevance(notification, now):
        case None:
            return True
        case Drop(reason):
            Notification.objects.pending().filter(pk=notification.pk, claim_token="").update(
                next_attempt_at=None, dropped_at=now, last_error=reason
            )
    return False
