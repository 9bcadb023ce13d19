"""The process that sends notifications while a tick runs."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NoReturn

from django.db import DatabaseError, InterfaceError

from chroniker import prometheus_files
from chroniker.conf import conf
from chroniker.logs import log_context
from chroniker.models import Notification

from .delivery import deliver

logger = logging.getLogger(__name__)

_KILL_AFTER_SECONDS = 5.0
"""How long a sender process may exceed its time before it is killed."""
_FORK_RETRY_SECONDS = 0.02
_PR_SET_PDEATHSIG = 1


class SenderProcess:
    """Forks a process that sends, one at a time, when notifications are due.

    Parameters:
        now: the database's time
        may_fork: whether forking is safe at this moment
        before_fork: closes what must not be shared with the process
        fds_to_close: the file descriptors that the process must not keep
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
        self._fds_to_close = fds_to_close
        self._pid = 0
        self._pidfd = -1
        self._kill_at = 0.0
        self._requested = False

    def request(self) -> None:
        """Ask for a process that sends: notifications may be due."""
        self._requested = True

    @property
    def busy(self) -> bool:
        """Whether a process is sending, or is requested."""
        return self._requested or self._pid != 0

    def poll(self) -> None:
        """Reap a process that has ended, kill one that takes too long, start one on request."""
        if self._pid and self._has_ended(0):
            self._reap()
        if self._pid and time.monotonic() > self._kill_at:
            logger.error(
                "Sending notifications took too long; the sender process was killed",
                extra=log_context(),
            )
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._has_ended(1.0)
            self._reap()
        if self._requested and not self._pid and self._may_fork():
            self._requested = False
            if Notification.objects.due(self._now()).exists():
                try:
                    self._fork()
                except OSError as error:  # the limit of processes or open files is reached
                    logger.error("Notifications will be sent later: %s", error, extra=log_context())

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``, or until the process ends."""
        if self._pid:
            self._has_ended(seconds)
        elif not self._requested:
            time.sleep(seconds)
        elif not self._may_fork():
            time.sleep(min(seconds, _FORK_RETRY_SECONDS))

    def close(self) -> None:
        """Kill the process; the next tick sends what is left."""
        if self._pid:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._reap()

    def _has_ended(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _reap(self) -> None:
        os.waitpid(self._pid, 0)
        os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1

    def _fork(self) -> None:
        seconds = conf.DELIVERY_TIMEOUT_SECONDS
        self._before_fork()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_sender(parent, self._now, seconds, self._fds_to_close())
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._pid = pid
        self._kill_at = time.monotonic() + seconds + _KILL_AFTER_SECONDS


def _run_sender(
    parent: int, now: Callable[[], datetime], seconds: float, fds_to_close: Iterable[int]
) -> NoReturn:
    """Send, then exit this process. The kernel kills it when the tick ends."""
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for fd in fds_to_close:
            os.close(fd)
        prometheus_files.leave()
        if os.getppid() == parent:
            deliver(now, seconds)
            code = 0
    except (DatabaseError, InterfaceError) as error:
        logger.warning(
            "Notifications will be sent later: %s",
            " ".join(str(error).split()),
            extra=log_context(),
        )
    except BaseException:
        logger.exception("Notifications could not be sent", extra=log_context())
    finally:
        os._exit(code)
