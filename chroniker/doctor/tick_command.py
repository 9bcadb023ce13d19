"""Find a tick of Chroniker in a command of a crontab, as a shell would run it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from string import Template
from typing import Self

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_PUNCTUATION = re.compile(r"[();<>|&]+")
_KEYWORDS = frozenset(("{", "!", "then", "do", "else", "if", "while"))
_SHELLS = frozenset(("sh", "bash", "dash", "ksh", "zsh", "su", "runuser", "flock"))
"""Programs that pass the text after ``-c`` to a shell."""
_RUNNERS = frozenset(("uv", "poetry", "pipenv", "pdm", "hatch"))
"""Programs that choose the environment themselves: ``uv run python manage.py cron``."""
_ELSEWHERE = frozenset(("docker", "podman", "kubectl", "ssh", "lxc", "nerdctl"))
"""Programs that run a command where this doctor cannot look."""

_WRAPPERS: Mapping[str, tuple[str, int]] = {
    "chronic": ("", 0),
    "cronic": ("", 0),
    "env": ("uC", 0),
    "exec": ("a", 0),
    "flock": ("wE", 1),
    "ionice": ("cnp", 0),
    "nice": ("n", 0),
    "nohup": ("", 0),
    "runuser": ("ugG", 0),
    "setsid": ("", 0),
    "stdbuf": ("ioe", 0),
    "sudo": ("ugpCDhrtRTU", 0),
    "systemd-cat": ("tp", 0),
    "time": ("fo", 0),
    "timeout": ("ks", 1),
}
"""Programs that start another one: their options with a value, and the words before it."""
_LONG_OPTIONS = frozenset(("--user", "--group", "--signal", "--kill-after", "--adjustment"))
"""Their long options whose value may be a word of its own."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A command that ticks a site."""

    program: str
    """The word that starts it: ``chroniker``, the interpreter, or ``manage.py`` itself."""
    directory: Path | None
    """The directory of the site, or None if the command does not name one."""
    manage: Path | None
    """The ``manage.py`` that it runs."""
    path: str
    """The PATH that the program is looked up in."""
    working_directory: Path
    has_environment: bool
    """Whether the command chooses a virtual environment itself."""


def find_tick(command: str, *, variables: Mapping[str, str], home: Path) -> Tick | None:
    """Find the tick of a site in a shell command.

    Parameters:
        command: the command; ``cd``, ``.``, assignments and programs such as ``flock`` are followed
        variables: what the crontab sets, with PATH
        home: where cron starts it
    """
    shell = _Shell({"HOME": str(home), **variables}, Path(variables.get("HOME", home)))
    return shell.find(command)


def simple_commands(command: str) -> Iterator[list[str]]:
    """Yield the words of each simple command, without redirections."""
    try:
        lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, ""
        tokens = list(lexer)
    except ValueError:  # a quote that is not closed
        tokens = re.split(r"\s+|([();<>|&]+)", command)
    words: list[str] = []
    rest = iter(token for token in tokens if token)
    for token in rest:
        if not _PUNCTUATION.fullmatch(token):
            words.append(token)
        elif "<" in token or ">" in token:
            next(rest, "")
        else:
            yield words
            words = []
    yield words


@dataclass(slots=True)
class _Shell:
    """What a command changes for those after it."""

    variables: dict[str, str]
    directory: Path
    changed_directory: bool = False
    bin: list[str] = field(default_factory=list)
    """The directories of environments that were activated."""

    def copy(self) -> Self:
        return replace(self, variables=dict(self.variables), bin=list(self.bin))

    def find(self, command: str) -> Tick | None:
        for words in simple_commands(command):
            while words and words[0] in _KEYWORDS:
                words = words[1:]
            if tick := self.run(words):
                return tick
        return None

    def run(self, words: list[str]) -> Tick | None:
        """Follow a simple command; return it if it is a tick."""
        words = [self.expand(word) for word in words]
        words = words[1:] if words[:1] == ["export"] else words
        own = self.copy()  # of an assignment before a command, only that command hears
        while words and (assignment := _ASSIGNMENT.fullmatch(words[0])):
            own.variables[assignment[1]] = assignment[2]
            words = words[1:]
        if not words:
            self.variables = own.variables
        elif words[0] == "cd" and len(words) > 1:
            self.directory /= words[1]
            self.changed_directory = True
        elif words[0] in (".", "source") and len(words) > 1:
            if os.path.basename(words[1]) == "activate":
                self.bin.insert(0, str((self.directory / words[1]).parent))
        else:
            return own.tick(words)
        return None

    def expand(self, word: str) -> str:
        """Replace variables that are known, and ``~``."""
        if word == "~" or word.startswith("~/"):
            word = self.variables["HOME"] + word[1:]
        return Template(word).safe_substitute(self.variables)

    def tick(self, words: list[str]) -> Tick | None:
        name = os.path.basename(words[0])
        if name in _ELSEWHERE:
            return None
        if name in _SHELLS and (text := _shell_text(words)):
            return self.copy().find(text)
        if name in _RUNNERS and words[1:2] == ["run"]:
            found = self.run(words[2:])
            return replace(found, program=words[0], has_environment=True) if found else None
        if name in _WRAPPERS:
            rest = _wrapped(words)
            return self.run(rest) if rest else None
        return self.program(words, surely=True) or self.wrapped_by_something(words)

    def wrapped_by_something(self, words: list[str]) -> Tick | None:
        """Find the tick behind a program that is not known."""
        for at in range(1, len(words)):
            if found := self.program(words[at:], surely=False):
                return found
        return None

    def program(self, words: list[str], *, surely: bool) -> Tick | None:
        """Return the tick that begins with these words. ``surely``: they are a command."""
        name = os.path.basename(words[0])
        if name == "chroniker" and (surely or ("/" in words[0] and _is_option(words[1:2]))):
            return self.command_line(words[0], words[1:])
        if name.startswith("python"):
            rest = _without_interpreter_options(words[1:])
            if rest[:2] == ["-m", "chroniker.cli"]:
                return self.command_line(words[0], rest[2:])
            if _is_manage_cron(rest):
                return self.managed(words[0], rest[0])
        if _is_manage_cron(words):
            return self.managed(words[0], words[0])
        return None

    def command_line(self, program: str, args: list[str]) -> Tick:
        """Return the tick of the program ``chroniker``."""
        directory = self.directory if self.changed_directory else None
        for at, word in enumerate(args):
            if word in ("-p", "--project") and at + 1 < len(args):
                directory = self.directory / args[at + 1]
            elif word.startswith("--project="):
                directory = self.directory / word.partition("=")[2]
        environment = any(re.match(r"-e|--virtualenv", word) for word in args)
        return self.found(program, directory, None, environment=environment)

    def managed(self, program: str, manage: str) -> Tick:
        """Return the tick of ``manage.py cron``."""
        path = self.directory / manage
        return self.found(program, path.parent, path, environment=False)

    def found(
        self, program: str, directory: Path | None, manage: Path | None, *, environment: bool
    ) -> Tick:
        path = os.pathsep.join([*self.bin, self.variables.get("PATH", "")])
        return Tick(program, directory, manage, path, self.directory, environment)


def _is_option(words: list[str]) -> bool:
    return bool(words) and words[0].startswith("-")


def _is_manage_cron(words: list[str]) -> bool:
    return len(words) > 1 and os.path.basename(words[0]) == "manage.py" and words[1] == "cron"


def _without_interpreter_options(words: list[str]) -> list[str]:
    """Remove the options of Python other than ``-m``."""
    while words and words[0].startswith("-") and words[0] != "-m":
        words = words[2:] if words[0] in ("-W", "-X") else words[1:]
    return words


def _shell_text(words: list[str]) -> str:
    """Return the command that a shell is given as text, or nothing."""
    for option, text in pairwise(words):
        if re.fullmatch(r"-\w*c|--command", option):
            return text
    return ""


def _wrapped(words: list[str]) -> list[str]:
    """Return the command that a wrapper starts."""
    options, positional = _WRAPPERS[os.path.basename(words[0])]
    rest = words[1:]
    while rest and rest[0].startswith("-"):
        word, *rest = rest
        if word == "--":
            break
        if word in _LONG_OPTIONS or _takes_next_word(word, options):
            rest = rest[1:]
    return rest[positional:]


def _takes_next_word(word: str, options: str) -> bool:
    """Whether the last letter of short options is one with a value."""
    if word.startswith("--"):
        return False
    first = next((at for at, letter in enumerate(word) if at and letter in options), None)
    return first == len(word) - 1
