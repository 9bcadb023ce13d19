"""The base class of channels."""

from __future__ import annotations

from typing import Self

from chroniker.exceptions import ChronikerError
from chroniker.models import Notification


class ChannelDown(ChronikerError):
    """The channel cannot be reached. Its other notifications are postponed as well."""


class Notifier:
    """A channel other than email; add its dotted path to ``CHRONIKER_NOTIFIERS``.

    It is a context manager: one instance is made for each batch. :meth:`send` is called once for
    each notification, and again with increasing delays as long as it raises. It must limit its own
    time.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Close what :meth:`send` has opened."""

    def send(self, notification: Notification) -> None:
        """Deliver one notification.

        Raises an exception if it was not delivered, and ChannelDown if no other notification can
        be delivered through this channel now.
        """
        raise NotImplementedError
