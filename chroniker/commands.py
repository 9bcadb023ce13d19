"""Which commands a job may run, and how their arguments are parsed."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from .conf import REFUSED_COMMANDS, conf
from .exceptions import CommandRefused

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

_PRINTS_AND_ENDS = {"-h", "--help", "--version"}


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


def command_parser(name: str) -> CommandParser:
    """The parser of a management command, which imports the command.

    Raises CommandRefused if the command cannot be imported here.
    """
    from django.core.management import get_commands, load_command_class

    try:
        found = get_commands()[name]
        command = load_command_class(found, name) if isinstance(found, str) else found
        return command.create_parser("manage.py", name)
    except Exception as error:  # whatever the module of the command raises
        raise CommandRefused(
            f"The command {name!r} cannot be loaded here: {type(error).__name__}: {error}"
        ) from error


def check_arguments(name: str, text: str) -> None:
    """Raise CommandRefused if the parser of the command ``name`` would not accept the arguments.

    A command that cannot be loaded here is not checked: its job may run on another host. Neither
    is one whose parser opens files, because checking must not create or empty them.
    """
    arguments = split_args(text)
    try:
        parser = command_parser(name)
    except CommandRefused:
        return
    if _PRINTS_AND_ENDS & set(arguments) or _opens_files(parser):
        return
    from django.core.management.base import CommandError

    try:
        parser.parse_args(arguments)
    except CommandError as error:
        reason = str(error).removeprefix("Error: ").rstrip(".")
        raise CommandRefused(f"The command does not accept these arguments: {reason}.") from error
    except (Exception, SystemExit):  # the command's own code, for which this is not the place
        return


def _opens_files(parser: argparse.ArgumentParser) -> bool:
    for action in parser._actions:
        if isinstance(action.type, argparse.FileType):
            return True
        choices = action.choices if isinstance(action, argparse._SubParsersAction) else None
        if choices and any(_opens_files(inner) for inner in choices.values()):
            return True
    return False
