"""The channel instances of one batch."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Self

from django.utils.module_loading import import_string

from chroniker.logs import log_context

from .mail import Mail
from .notifiers import Notifier
from .recipients import APPRISE, MAIL

logger = logging.getLogger(__name__)


class Channels:
    """Creates each channel on first use and closes all of them together."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._by_name: dict[str, Notifier] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._stack.close()
        except Exception:
            logger.warning("A channel could not be closed", exc_info=True, extra=log_context())

    def get(self, name: str) -> Notifier:
        """The channel of this name. Raises whatever importing or creating it raises."""
        if name not in self._by_name:
            channel: Notifier = _create(name)
            self._by_name[name] = self._stack.enter_context(channel)
        return self._by_name[name]


def _create(name: str) -> Notifier:
    if name == MAIL:
        return Mail()
    if name == APPRISE:
        from .apprise_channel import AppriseChannel  # an extra, and slow to import

        return AppriseChannel()
    channel: Notifier = import_string(name)()
    return channel
