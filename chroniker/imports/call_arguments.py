"""Arguments of django-chroniker: for ``call_command()``, not for a command line."""

from __future__ import annotations

import argparse
import shlex

_TRUE = ("True", "true", "1", "yes")


def as_command_line(command: str, text: str) -> tuple[str, tuple[str, ...]]:
    """Translate ``arg1 option=value`` to a command line; also return notes.

    django-chroniker splits at blanks, passes words with ``=`` as keyword arguments, and knows no
    quotes. An option that the command does not have is kept as ``--option=value``.
    """
    parser = _parser(command)
    words, notes = [], []
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or name.startswith("-"):
            words.append(word)
            continue
        action = _action(parser, name)
        if action is None:
            words.append(f"--{name.replace('_', '-')}={value}")
            notes.append(f"the command {command} has no option {name}")
        elif not action.option_strings:
            words.append(value)
        elif action.nargs == 0:
            words.append(_option(action))
            if value not in _TRUE:
                notes.append(f"{name}={value} is now {_option(action)}, as it worked before")
        else:
            words.append(f"{_option(action)}={value}")
    return shlex.join(words), tuple(notes)


def _parser(command: str) -> argparse.ArgumentParser | None:
    from django.core.management import get_commands, load_command_class

    try:
        app = get_commands()[command]
        found = load_command_class(app, command) if isinstance(app, str) else app
        parser: argparse.ArgumentParser = found.create_parser("manage.py", command)
    except Exception:  # a command of the site may raise anything
        return None
    return parser


def _action(parser: argparse.ArgumentParser | None, name: str) -> argparse.Action | None:
    if parser is None:
        return None
    return next((action for action in parser._actions if action.dest == name), None)


def _option(action: argparse.Action) -> str:
    return max(action.option_strings, key=len)
