"""Sending what the outbox holds: claimed by one, tried again, and never in a job's way.

Sending is done by a fork of the tick. A mail server that hangs then holds back no renewal of a
lease, what a channel's code does to its process is nobody's trouble, and where everything else
fails the fork can be killed. A thread could be none of that, and the tick forks: a fork of a
process with threads may inherit a lock that is held.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial

from django.db import DatabaseError, InterfaceError
from django.db.models import Case, F, Value, When
from django.utils.module_loading import import_string

from .clock import boottime
from .conf import conf
from .enums import NotificationEvent
from .mail import Mail
from .models import Notification, Tally
from .notifying import ChannelDown, Notifier
from .outbox import MAIL
from .output import Masker
from .querysets import NotificationQuerySet
from .starting import site_secrets
from .transactions import drop_connection, run_transaction

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
_KILL_AFTER_SECONDS = 5.0
_FORK_AGAIN_SECONDS = 0.02
_MARK_SECONDS = 5.0
"""For how long it is tried to note that something was sent."""
_PR_SET_PDEATHSIG = 1


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
        Tally.objects.add(FAILURES)

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
    return now - notification.created_at > timedelta(days=conf.GIVE_UP_DAYS)


def _give_back(notification: Notification, token: str, now: datetime) -> None:
    """It was claimed and not tried: the next tick may."""
    _mine(notification, token).update(next_attempt_at=now + _OPENING_WAIT, claim_token="")


# --- in the tick ---


class Postman:
    """Lets a process of its own send, whenever something was written.

    ``now`` gives the database's time; ``may_fork`` says whether this is a moment to fork;
    ``before_fork`` closes what must not be shared, and ``not_theirs`` are the descriptors that the
    process must not keep.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        may_fork: Callable[[], bool],
        before_fork: Callable[[], None],
        not_theirs: Callable[[], Iterable[int]],
    ) -> None:
        self._now = now
        self._may_fork = may_fork
        self._before_fork = before_fork
        self._not_theirs = not_theirs
        self._pid = 0
        self._pidfd = -1
        self._kill_at = 0.0
        self._wanted = False

    def want(self) -> None:
        """Something may be there to be sent."""
        self._wanted = True

    @property
    def busy(self) -> bool:
        """Whether something is being sent, or is to be."""
        return self._wanted or self._pid != 0

    def turn(self) -> None:
        """Start what is wanted, see what has ended, and end what takes too long."""
        if self._pid and self._has_ended(0):
            self._bury()
        if self._pid and time.monotonic() > self._kill_at:
            logger.error("Sending notifications took too long and was ended")
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._has_ended(1.0)
            self._bury()
        if self._wanted and not self._pid and self._may_fork():
            self._wanted = False
            if Notification.objects.due(self._now()).exists():
                try:
                    self._fork()
                except OSError as error:  # no more processes or files for this user
                    logger.error("Notifications are sent later, because: %s", error)

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than until what is being sent has been."""
        if self._pid:
            self._has_ended(seconds)
        elif not self._wanted:
            time.sleep(seconds)
        elif not self._may_fork():
            time.sleep(min(seconds, _FORK_AGAIN_SECONDS))

    def close(self) -> None:
        """Leave nothing behind; what is not sent is the next tick's."""
        if self._pid:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._bury()

    def _has_ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _bury(self) -> None:
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _fork(self) -> None:
        seconds = conf.SEND_SECONDS
        self._before_fork()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_the_sender(parent, self._now, seconds, self._not_theirs())
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._pid = pid
        self._kill_at = time.monotonic() + seconds + _KILL_AFTER_SECONDS


def _be_the_sender(
    parent: int, now: Callable[[], datetime], seconds: float, not_theirs: Iterable[int]
) -> None:
    """Send, to the end of this process, which dies with the tick."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for fd in not_theirs:
            os.close(fd)
        if os.getppid() == parent:
            deliver(now, seconds)
            code = 0
    except (DatabaseError, InterfaceError) as error:
        logger.warning("Notifications are sent later, because: %s", " ".join(str(error).split()))
    except BaseException:
        logger.exception("Notifications could not be sent")
    finally:
        os._exit(code)
