"""What a scheduler sends in addition to running jobs: notifications, and the dead man's switch."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from chroniker import background
from chroniker.db.connections import before_fork

if TYPE_CHECKING:  # imported when there is something to send
    from chroniker.alerting.deadman import DeadManSwitch
    from chroniker.alerting.sender import SenderProcess


class Messenger:
    """Starts the sender process and the dead man's switch thread when they are needed.

    ``now`` gives the database's time; ``descriptors`` the file descriptors that the sender process
    must not hold.
    """

    def __init__(self, now: Callable[[], datetime], descriptors: Callable[[], list[int]]) -> None:
        self._now = now
        self._descriptors = descriptors
        self._sender: SenderProcess | None = None
        self._deadman_switch: DeadManSwitch | None = None

    @property
    def busy(self) -> bool:
        """Whether a notification is being sent or is waiting to be sent."""
        return self._sender is not None and self._sender.busy

    @property
    def started(self) -> bool:
        """Whether there has ever been anything to send."""
        return self._sender is not None

    def can_fork(self) -> bool:
        """Whether no thread of ours could hold a lock that a forked process would wait for."""
        if background.busy():
            return False
        return self._deadman_switch is None or not self._deadman_switch.pinging

    def send_notifications(self) -> None:
        """Let the sender process empty the outbox."""
        if self._sender is None:
            from chroniker.alerting.sender import SenderProcess

            self._sender = SenderProcess(self._now, self.can_fork, before_fork, self._descriptors)
        self._sender.request()

    def ping_deadman_url(self) -> None:
        """Fetch the URL of the dead man's switch in a thread."""
        from chroniker.alerting.deadman import DeadManSwitch

        self._deadman_switch = self._deadman_switch or DeadManSwitch()
        self._deadman_switch.ping()

    def poll(self) -> None:
        """Start the sender process if it is wanted, and end it if it takes too long."""
        if self._sender is not None:
            self._sender.poll()

    def wait(self, seconds: float) -> None:
        """Sleep, no longer than until the sender process ends."""
        if self._sender is not None:
            self._sender.wait(seconds)
        else:
            time.sleep(seconds)

    def close(self) -> None:
        """End the sender process."""
        if self._sender is not None:
            self._sender.close()

    def wait_for_ping(self) -> None:
        """Wait for the dead man's switch, which has its own time limit."""
        if self._deadman_switch is not None:
            self._deadman_switch.wait()
