"""Which commands a job may run, and how their arguments are parsed."""

from __future__ import annotations

import shlex

from .conf import REFUSED_COMMANDS, conf
from .exceptions import CommandRefused


def split_args(text: str) -> list[str]:
    """Split arguments as a shell does; quotes work, but nothing is expanded.

    Raises CommandRefused if a quote is not closed or the text contains a NUL.
    """
    if "\0" in text:
        raise CommandRefused("An argument must not contain a NUL character. Remove it.")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandRefused(
            f"The arguments cannot be split: {error}. Close each quote."
        ) from error


def check_command(name: str) -> None:
    """Raise CommandRefused unless the site lets jobs run the management command ``name``."""
    from django.core.management import get_commands

    allowed = conf.ALLOWED_COMMANDS
    if allowed is not None and name not in allowed:
        raise CommandRefused(
            f"Jobs of this site may not run {name!r}. Add it to CHRONIKER_ALLOWED_COMMANDS, or use "
            "a command that is listed there."
        )
    if allowed is None and name in REFUSED_COMMANDS:
        raise CommandRefused(
            f"Jobs may not run {name!r}: it opens a shell, runs a server, waits for a terminal or "
            "destroys data. To allow it, list it in CHRONIKER_ALLOWED_COMMANDS."
        )
    if name not in get_commands():
        raise CommandRefused(
            f"There is no management command {name!r}. `manage.py help` lists all commands."
        )


def check_raw_command(text: str) -> None:
    """Raise CommandRefused unless ``text`` names a program and raw commands are allowed."""
    if not conf.ALLOW_RAW_COMMANDS:
        raise CommandRefused(
            "This site does not allow raw commands. Set CHRONIKER_ALLOW_RAW_COMMANDS to allow them."
        )
    if not any(split_args(text)[:1]):
        raise CommandRefused(
            "The command is empty. Name a program, such as `/usr/local/bin/backup --all`."
        )
