"""The process that sends notifications beside a running tick."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from django.db import DatabaseError, InterfaceError

from chroniker.alerting.delivery import deliver, logger
from chroniker.conf import conf
from chroniker.models import Notification

_KILL_AFTER_SECONDS = 5.0


_FORK_AGAIN_SECONDS = 0.02


_PR_SET_PDEATHSIG = 1


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
        fds_to_close: Callable[[], Iterable[int]],
    ) -> None:
        self._now = now
        self._may_fork = may_fork
        self._before_fork = before_fork
        self._not_theirs = fds_to_close
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
        seconds = conf.DELIVERY_TIMEOUT_SECONDS
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
    parent: int, now: Callable[[], datetime], seconds: float, fds_to_close: Iterable[int]
) -> None:
    """Send, to the end of this process, which dies with the tick."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for fd in fds_to_close:
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
