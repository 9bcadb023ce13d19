"""Failures that are logged once for each outage: there are many ticks, and cron mails their log.

A file in the runtime directory exists as long as the outage lasts.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from .conf import runtime_dir
from .identity import site_identity
from .logs import log_context


class Outage:
    """An outage of something outside that this site uses, by ``name``."""

    def __init__(self, logger: logging.Logger, name: str) -> None:
        self._logger = logger
        self._name = name

    def begin(self, message: str, *args: object) -> None:
        """Log a failure, if it is the first one of an outage."""
        try:
            marker = self._marker()  # raises FileExistsError, too, if the directory is a file
            with contextlib.suppress(FileExistsError):
                marker.touch(mode=0o600, exist_ok=False)
                self._logger.warning(message, *args, extra=log_context())
        except OSError as error:  # a repeated message is better than none
            self._logger.warning("%s (%s)", message % args, error, extra=log_context())

    def end(self, message: str, *args: object) -> None:
        """Log a success, if it is the first one after an outage."""
        with contextlib.suppress(OSError):
            self._marker().unlink()
            self._logger.info(message, *args, extra=log_context())

    def _marker(self) -> Path:
        return Path(runtime_dir()) / f"{self._name}-{site_identity()}.down"
