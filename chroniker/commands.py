"""Which commands a job may name, and how their arguments are read."""

from __future__ import annotations

import shlex

from .conf import REFUSED_COMMANDS, conf
from .exceptions import CommandRefused

CHECK_MONITOR = "check_monitor"
"""The command of monitors, whose incidents come from what they measure."""


def split_args(text: str) -> list[str]:
    """Arguments as a shell would split them; quotes work, nothing is expanded.

    Raises CommandRefused where a quote is not closed or a NUL is in it.
    """
    if "\0" in text:
        raise CommandRefused("A NUL character cannot be part of an argument; remove it.")
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandRefused(
            f"The arguments cannot be split ({error}); close each quote that is opened."
        ) from error


def check_command(name: str) -> None:
    """Raise CommandRefused unless the site lets jobs run the management command ``name``."""
    from django.core.management import get_commands

    allowed = conf.ALLOWED_COMMANDS
    if allowed is not None and name not in allowed:
        raise CommandRefused(
            f"This site does not let jobs run {name!r}; CHRONIKER_ALLOWED_COMMANDS lists those "
            "that it does."
        )
    if allowed is None and name in REFUSED_COMMANDS:
        raise CommandRefused(
            f"Jobs may not run {name!r}: it hands out a shell, serves, waits for a terminal or "
            "destroys data. CHRONIKER_ALLOWED_COMMANDS can list it all the same."
        )
    if name not in get_commands():
        raise CommandRefused(
            f"There is no management command {name!r}; `manage.py help` lists those there are."
        )


def check_raw_command(text: str) -> None:
    """Raise CommandRefused unless ``text`` names a program and raw commands are allowed."""
    if not conf.ALLOW_RAW_COMMANDS:
        raise CommandRefused(
            "This site does not allow raw commands; CHRONIKER_ALLOW_RAW_COMMANDS would."
        )
    if not any(split_args(text)[:1]):
        raise CommandRefused("Name a program, such as `/usr/local/bin/backup --all`.")
