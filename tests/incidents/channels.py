"""Channels of a site, for tests."""

from __future__ import annotations

import time

from chroniker.models import Notification
from chroniker.notifying import Notifier


class Stuck(Notifier):
    """Never comes back."""

    def send(self, notification: Notification) -> None:
        while True:
            time.sleep(60)
