"""Sending the notifications that are due.

This runs in a sender process, a fork of the tick: a mail server that hangs does not delay the
renewal of leases, the code of a channel cannot harm the tick, and the process can be killed. A
thread would not do, because the tick forks, and a fork of a process with threads may inherit a
lock that is never released.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError

from chroniker.db.clock import boottime
from chroniker.db.transactions import drop_connection, run_transaction
from chroniker.models import Notification

from .attempts import ClaimedNotification
from .bundles import form_bundles
from .channels import Channels
from .notifiers import ChannelDown
from .relevance import Drop, Postpone, check_relevance

_BATCH = 20
_CLAIM_MARGIN = timedelta(seconds=60)
"""How long a claim is valid after its sender process must have stopped."""


def deliver(now: Callable[[], datetime], seconds: float) -> int:
    """Send what is due for up to ``seconds``; return how many were sent.

    Errors of channels are recorded, not raised. No attempt starts after that time; the duration of
    an attempt is limited by its channel.
    """
    return _Delivery(now, seconds).run()


class _Delivery:
    """One call of :func:`deliver`."""

    def __init__(self, now: Callable[[], datetime], seconds: float) -> None:
        self._now = now
        self._seconds = seconds
        self._ends_at = boottime() + seconds
        self._down: set[str] = set()
        """The channels that cannot be reached."""

    def run(self) -> int:
        sent = 0
        while boottime() < self._ends_at:
            token = secrets.token_hex(16)
            moment = self._now()
            form_bundles(moment)
            until = moment + timedelta(seconds=self._seconds) + _CLAIM_MARGIN
            valid_until = boottime() + (until - moment).total_seconds()
            if not self._claim(token, moment, until):
                break
            sent += self._send_batch(token, min(self._ends_at, valid_until))
        return sent

    def _claim(self, token: str, now: datetime, until: datetime) -> int:
        due = Notification.objects.due(now).exclude(channel__in=self._down)
        # Those that have never failed come first, so that one that a server rejects does not delay
        # the others.
        keys = list(
            due.order_by("attempts", "next_attempt_at", "pk").values_list("pk", flat=True)[:_BATCH]
        )
        if not keys:
            return 0
        return run_transaction(partial(Notification.objects.claim, keys, token, now, until))

    def _send_batch(self, token: str, ends_at: float) -> int:
        sent = 0
        batch = Notification.objects.claimed_by(token).select_related("job", "incident", "run")
        with Channels() as channels:
            for notification in batch.order_by("attempts", "created_at", "pk"):
                claimed = ClaimedNotification(notification, token)
                if boottime() >= ends_at or notification.channel in self._down:
                    claimed.release(self._now())
                elif self._send(claimed, channels):
                    sent += 1
        return sent

    def _send(self, claimed: ClaimedNotification, channels: Channels) -> bool:
        """Send one or record why not; return whether it was sent."""
        notification = claimed.notification
        match check_relevance(notification, self._now()):
            case Postpone(until):
                claimed.postpone(until)
                return False
            case Drop(reason):
                claimed.drop(reason, self._now())
                return False
        if claimed.drop_unfinished(self._now()):
            return False
        if not claimed.begin(self._now()):
            return False  # it was deleted, or another process has claimed it
        try:
            channels.get(notification.channel).send(notification)
        except Exception as error:
            if isinstance(error, DatabaseError | InterfaceError):
                drop_connection()  # the error of a channel must not prevent recording it
            if isinstance(error, ChannelDown):
                self._down.add(notification.channel)
            claimed.record_failure(error, self._now())
            return False
        claimed.record_sent(self._now())
        return True
