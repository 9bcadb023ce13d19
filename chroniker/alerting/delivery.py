"""Sending what the outbox holds: claimed by one, tried again, and never in a job's way.

Sending is done by a fork of the tick. A mail server that hangs then holds back no renewal of a
lease, what a channel's code does to its process is nobody's trouble, and where everything else
fails the fork can be killed. A thread could be none of that, and the tick forks: a fork of a
process with threads may inherit a lock that is held.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError
from django.db.models import Case, F, Value, When
from django.utils.module_loading import import_string

from chroniker.conf import conf
from chroniker.db.clock import boottime
from chroniker.db.transactions import drop_connection, run_transaction
from chroniker.enums import NotificationEvent
from chroniker.masking import Masker, site_secrets
from chroniker.models import Counter, Notification
from chroniker.models.incident import NotificationQuerySet

from .mail import Mail
from .notifiers import ChannelDown, Notifier
from .outbox import MAIL

logger = logging.getLogger(__name__)

FAILURES = "notification_failures"
"""The tally of attempts that failed: ``chroniker_notification_failures_total``."""

UNFINISHED = "It was begun, and its sender was not heard of again."
"""The error of one that is being sent, until it is known how that ended."""

_BATCH = 20
_FIRST_DELAY = timedelta(seconds=30)
_LONGEST_DELAY = timedelta(hours=1)
_OPENING_WAIT = timedelta(seconds=15)
_LEASE_SPARE = timedelta(seconds=60)
"""How long after the sender has to stop nobody else takes what it has claimed."""
_MARK_SECONDS = 5.0
"""For how long it is tried to note that something was sent."""


# --- in the process that sends ---


def deliver(now: Callable[[], datetime], seconds: float) -> int:
    """Send what is due for up to ``seconds``; how many were sent. Never raises for a channel.

    Nothing new is begun after that time; what is begun takes as long as its channel lets it.
    """
    ends_at = boottime() + seconds
    sent = 0
    down: set[str] = set()
    while boottime() < ends_at:
        token = secrets.token_hex(16)
        moment = now()
        until = moment + timedelta(seconds=seconds) + _LEASE_SPARE
        safe_until = boottime() + (until - moment).total_seconds()
        if not _claim(token, moment, until, down):
            break
        batch = Notification.objects.claimed_by(token).select_related("job", "incident", "run")
        with _Channels() as channels:
            for notification in batch.order_by("attempts", "created_at", "pk"):
                if boottime() >= min(ends_at, safe_until) or notification.channel in down:
                    _give_back(notification, token, now())
                else:
                    sent += _try(notification, token, channels, down, now)
    return sent


def _claim(token: str, now: datetime, until: datetime, down: set[str]) -> int:
    due = Notification.objects.due(now).exclude(channel__in=down)
    # Those that never failed first: what a server cannot bear holds back nothing else.
    keys = list(
        due.order_by("attempts", "next_attempt_at", "pk").values_list("pk", flat=True)[:_BATCH]
    )
    if not keys:
        return 0
    return run_transaction(partial(Notification.objects.claim, keys, token, now, until))


class _Channels:
    """The channels of a batch, made when they are needed and left together."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._known: dict[str, Notifier] = {}

    def __enter__(self) -> _Channels:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._stack.close()
        except Exception:
            logger.warning("A channel could not be closed", exc_info=True)

    def get(self, name: str) -> Notifier:
        if name not in self._known:
            channel = Mail() if name == MAIL else import_string(name)()
            self._known[name] = self._stack.enter_context(channel)
        return self._known[name]


def _try(
    notification: Notification,
    token: str,
    channels: _Channels,
    down: set[str],
    now: Callable[[], datetime],
) -> int:
    """Send one, or note why not; 1 where it was sent."""
    if (verdict := _judge(notification, now())) is not None:
        if isinstance(verdict, datetime):
            _mine(notification, token).update(next_attempt_at=verdict, claim_token="")
        else:
            _settle(notification, token, dropped_at=now(), last_error=verdict)
        return 0
    if notification.last_error == UNFINISHED and _is_too_old(notification, now()):
        _settle(notification, token, dropped_at=now(), last_error=UNFINISHED)
        return 0
    if not _expect_the_worst(notification, token, now()):
        return 0  # its job was deleted, or it is not ours any more
    try:
        channels.get(notification.channel).send(notification)
    except Exception as error:
        if isinstance(error, DatabaseError | InterfaceError):
            drop_connection()  # the channel's trouble, unless it cannot be written down
        if isinstance(error, ChannelDown):
            down.add(notification.channel)
        _failed(notification, token, error, now())
        return 0
    _settle(notification, token, sent_at=now(), last_error="", attempts=notification.attempts)
    return 1


def _expect_the_worst(notification: Notification, token: str, now: datetime) -> int:
    """Count it as failed before it is tried; 0 where it is not to be.

    One that makes its sender hang or die would otherwise be the first again each time, and
    whatever comes after it would wait for ever.
    """
    again = now + _delay(notification)
    return _mine(notification, token).update(
        attempts=notification.attempts + 1,
        last_error=UNFINISHED,
        next_attempt_at=Case(
            When(next_attempt_at__lt=again, then=Value(again)), default=F("next_attempt_at")
        ),
    )


def _judge(notification: Notification, now: datetime) -> str | datetime | None:
    """None: send it. A reason: it will never be sent. A moment: not before then."""
    incident = notification.incident
    if incident is None:
        return None
    event = notification.event
    if event == NotificationEvent.RESOLVED:
        before = Notification.objects.filter(
            incident=incident, channel=notification.channel, recipient=notification.recipient
        ).exclude(event=NotificationEvent.RESOLVED)
        if before.filter(sent_at__isnull=False).exists():
            return None
        openings = (NotificationEvent.OPENED, NotificationEvent.FLAPPING)
        opening = before.pending().filter(event__in=openings).order_by("pk").last()
        if opening is None or opening.next_attempt_at is None:
            return "Its opening was never sent."
        soon = now + _OPENING_WAIT
        # Not at once again: many that only look would keep their openings from their turn.
        return soon if opening.claim_token else max(soon, opening.next_attempt_at)
    stale = (NotificationEvent.REMINDER, NotificationEvent.WORSENED)
    if event in stale and incident.resolved_at is not None:
        return "It was over before this could be sent."
    if event == NotificationEvent.REMINDER and incident.acknowledged_at is not None:
        return "It was acknowledged before this could be sent."
    return None


def _mine(notification: Notification, token: str) -> NotificationQuerySet:
    return Notification.objects.claimed_by(token).filter(pk=notification.pk)


def _settle(notification: Notification, token: str, **changes: object) -> None:
    """Write down that it is done; for a while also against a database that is away."""
    give_up_at = time.monotonic() + _MARK_SECONDS
    while True:
        try:
            run_transaction(
                lambda: _mine(notification, token).update(
                    next_attempt_at=None, claim_token="", **changes
                )
            )
            return
        except (DatabaseError, InterfaceError):
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.2)


def _failed(notification: Notification, token: str, error: Exception, now: datetime) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = f"{type(error).__name__}: {reason}".encode("utf-8", "backslashreplace").decode()
    # It may name an address with a key in it; and masked before it is cut.
    reason = Masker(site_secrets()).mask_text(reason.replace("\0", ""))[:500]
    delay, too_old = _delay(notification), _is_too_old(notification, now)

    def note() -> None:
        _mine(notification, token).update(
            attempts=notification.attempts + 1,
            last_error=reason,
            claim_token="",
            next_attempt_at=None if too_old else now + delay,
            dropped_at=now if too_old else None,
        )
        Counter.objects.add(FAILURES)

    run_transaction(note)
    level = logging.ERROR if too_old else logging.WARNING
    logger.log(
        level,
        "Notification %s (%s) %s: %s",
        notification.pk,
        notification.channel,
        "is given up" if too_old else f"is tried again in {delay}",
        reason,
    )


def _delay(notification: Notification) -> timedelta:
    """How long after a failure it is tried again."""
    delay: timedelta = _FIRST_DELAY * 2 ** min(notification.attempts, 10)
    return min(delay, _LONGEST_DELAY)


def _is_too_old(notification: Notification, now: datetime) -> bool:
    return now - notification.created_at > timedelta(days=conf.DELIVERY_MAX_AGE_DAYS)


def _give_back(notification: Notification, token: str, now: datetime) -> None:
    """It was claimed and not tried: the next tick may."""
    _mine(notification, token).update(next_attempt_at=now + _OPENING_WAIT, claim_token="")


# --- in the tick ---
