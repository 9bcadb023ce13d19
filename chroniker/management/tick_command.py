"""The base of the commands that tick."""

from __future__ import annotations

from chroniker.db.connections import close_pools

from .base import ChronikerCommand


class TickCommand(ChronikerCommand):
    """A command that leaves no connection pool to the end of the interpreter.

    The threads of an open pool would print a warning there, and cron would send it by mail.
    """

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command, and close the pools of its process."""
        try:
            super().run_from_argv(argv)
        finally:
            close_pools()
