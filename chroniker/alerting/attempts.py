"""Recording the attempts to send a notification."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError
from django.db.models import Case, F, Value, When

from chroniker.conf import conf
from chroniker.db.transactions import run_transaction
from chroniker.enums import NotificationEvent
from chroniker.logs import log_context
from chroniker.masking import Masker, site_secrets
from chroniker.models import Counter, Notification
from chroniker.models.notification import NotificationQuerySet

from .relevance import OPENING_WAIT

logger = logging.getLogger(__name__)

FAILURES_COUNTER = "notification_failures"
"""The counter of failed attempts: ``chroniker_notification_failures_total``."""

UNFINISHED = "An attempt has started and has not finished."
"""The error while an attempt is in progress, and after its sender process has died."""

_SENDER_DIED = "The sender process died during delivery."
_FIRST_DELAY = timedelta(seconds=30)
_MAX_DELAY = timedelta(hours=1)
_RECORD_SECONDS = 5.0
"""How long recording a result is retried."""


class ClaimedNotification:
    """A notification that this process has claimed, and the transitions of its row.

    Every update applies only as long as the claim is valid.
    """

    def __init__(self, notification: Notification, token: str) -> None:
        self.notification = notification
        self._token = token

    def begin(self, now: datetime) -> bool:
        """Record the attempt as failed before it is made; False if the claim is lost.

        Without this, a notification that hangs or kills its sender process would come first again
        each time, and nothing after it would ever be sent.
        """
        retry_at = now + self._delay()
        updated = self._row().update(
            attempts=self.notification.attempts + 1,
            attempt_unfinished=True,
            last_error=UNFINISHED,
            next_attempt_at=Case(
                When(next_attempt_at__lt=retry_at, then=Value(retry_at)),
                default=F("next_attempt_at"),
            ),
        )
        return bool(updated)

    def record_sent(self, now: datetime) -> None:
        """Record that it was sent."""
        self._finish(sent_at=now, last_error="", attempts=self.notification.attempts)

    def record_failure(self, error: Exception, now: datetime) -> None:
        """Record why it was not sent and when it is retried, or drop it if it is too old."""
        reason = _describe(error)
        delay, too_old = self._delay(), self.is_too_old(now)

        def record() -> None:
            recorded = self._row().update(
                attempts=self.notification.attempts + 1,
                attempt_unfinished=False,
                last_error=reason,
                claim_token="",
                next_attempt_at=None if too_old else now + delay,
                dropped_at=now if too_old else None,
            )
            if recorded and too_old:
                self._members().update(dropped_at=now, last_error=reason)
            Counter.objects.add(FAILURES_COUNTER)

        run_transaction(record)
        job = self.notification.job
        logger.log(
            logging.ERROR if too_old else logging.WARNING,
            "Notification %s (%s) %s: %s",
            self.notification.pk,
            self.notification.channel,
            "was dropped" if too_old else f"will be retried in {delay}",
            reason,
            extra=log_context(job=job.name if job else None, run=self.notification.run_id),
        )

    def drop(self, reason: str, now: datetime) -> None:
        """Record that it will not be sent."""
        self._finish(dropped_at=now, last_error=reason)

    def drop_unfinished(self, now: datetime) -> bool:
        """Drop it if it is too old and its last attempt killed its sender process."""
        if not (self.notification.attempt_unfinished and self.is_too_old(now)):
            return False
        self.drop(_SENDER_DIED, now)
        return True

    def postpone(self, until: datetime) -> None:
        """Give the claim back, to be sent at a later moment."""
        self._row().update(next_attempt_at=until, claim_token="")

    def release(self, now: datetime) -> None:
        """Give the claim back without an attempt, for the next tick."""
        self.postpone(now + OPENING_WAIT)

    def is_too_old(self, now: datetime) -> bool:
        """Whether it is older than ``CHRONIKER_DELIVERY_MAX_AGE_DAYS``."""
        return now - self.notification.created_at > timedelta(days=conf.DELIVERY_MAX_AGE_DAYS)

    def _delay(self) -> timedelta:
        """How long after a failure it is retried."""
        delay: timedelta = _FIRST_DELAY * 2 ** min(self.notification.attempts, 10)
        return min(delay, _MAX_DELAY)

    def _row(self) -> NotificationQuerySet:
        return Notification.objects.claimed_by(self._token).filter(pk=self.notification.pk)

    def _finish(self, **changes: object) -> None:
        """Record the result; retried for a while if the database is not available."""
        give_up_at = time.monotonic() + _RECORD_SECONDS
        while True:
            try:
                run_transaction(partial(self._write_result, changes))
                return
            except (DatabaseError, InterfaceError):
                if time.monotonic() > give_up_at:
                    raise
                time.sleep(0.2)

    def _write_result(self, changes: dict[str, object]) -> None:
        result = {"next_attempt_at": None, "claim_token": "", "attempt_unfinished": False}
        if self._row().update(**result, **changes):
            self._members().update(**{**changes, "attempts": 0})

    def _members(self) -> NotificationQuerySet:
        """The notifications that this one stands for, if it is a bundle."""
        if self.notification.event != NotificationEvent.BUNDLE:
            return Notification.objects.none()
        return Notification.objects.filter(bundle=self.notification.pk, sent_at=None)


def _describe(error: Exception) -> str:
    """The error in one line without secrets; it may contain a URL with a key."""
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = f"{type(error).__name__}: {reason}".encode("utf-8", "backslashreplace").decode()
    # Masked before it is shortened: a part of a secret would not be recognised.
    return Masker(site_secrets()).mask_text(reason.replace("\0", ""))[:500]
