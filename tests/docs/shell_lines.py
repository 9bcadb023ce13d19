"""Whether the commands in a shell block exist and take the options that they are given."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand, CommandError

from .blocks import REPO

OTHER_PROGRAMS = {
    ".",
    "backup.sh",
    "cd",
    "celery",
    "crontab",
    "curl",
    "echo",
    "export",
    "fuser",
    "git",
    "prometheus",
    "promtool",
}
"""Programs that are not ours; their options are not checked."""


class BadCommand(Exception):
    """A command that does not exist, or does not take what it is given."""


def iter_commands(text: str, *, console: bool = False) -> list[list[str]]:
    """The simple commands of a block, as words; of a ``console`` block only the lines after $."""
    lines = text.replace("\\\n", " ").splitlines()
    if console:
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    return [command for line in lines for command in split_commands(line)]


def split_commands(line: str) -> list[list[str]]:
    """The simple commands of a line, without comments, assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            commands.append([])
        elif commands[-1] or not re.match(r"\w+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def check_command(words: list[str]) -> None:
    """Raise BadCommand unless the program exists and takes these options."""
    program, arguments = words[0], words[1:]
    name = Path(program).name or program  # of "." alone
    if name in ("python", "python3"):
        _check_python(arguments)
    elif name == "manage.py":
        _check_management_command(arguments)
    elif name == "chroniker":
        _check_options("chroniker", _chroniker_help(), arguments)
    elif name == "make":
        _check_targets(arguments)
    elif name == "pip":
        _check_requirements(arguments)
    elif name == "pytest":
        _check_paths(arguments)
    elif program.startswith("scripts/"):
        _check_script(program, arguments)
    elif name in ("django-admin", "ruff", "mypy", "pre-commit", "lint-imports"):
        return
    elif name not in OTHER_PROGRAMS:
        raise BadCommand(f"no such program is known: {program}")


def _check_python(arguments: list[str]) -> None:
    if arguments[0] == "-c":
        compile(arguments[1], "<shell block>", "exec")
    elif arguments[0] == "-m":
        if importlib.util.find_spec(arguments[1]) is None:
            raise BadCommand(f"there is no module {arguments[1]}")
        if arguments[1] == "pytest":
            _check_paths(arguments[2:])
        elif arguments[1] == "pip":
            _check_requirements(arguments[2:])
        elif arguments[1] in ("benchmarks", "benchmarks.peers"):
            _check_options(arguments[1], _module_help(arguments[1]), arguments[2:])
    elif Path(arguments[0]).name == "manage.py":
        _check_management_command(arguments[1:])
    elif arguments[0].startswith("scripts/"):
        _check_paths(arguments[:1])
    else:
        raise BadCommand(f"no module, script or manage.py: {arguments[0]}")


def _check_management_command(arguments: list[str]) -> None:
    name = arguments[0]
    app = get_commands().get(name)
    if app is None:
        raise BadCommand(f"there is no management command {name}")
    command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    try:
        command.create_parser("manage.py", name).parse_args(arguments[1:])
    except CommandError as error:
        raise BadCommand(f"manage.py {name}: {error}") from error


def _check_options(program: str, help_text: str, arguments: list[str]) -> None:
    for word in arguments:
        option = word.partition("=")[0]
        if option.startswith("-") and not re.search(rf"(?<![\w-]){re.escape(option)}\b", help_text):
            raise BadCommand(f"{program} has no option {option}")


@cache
def _chroniker_help() -> str:
    return _module_help("chroniker.cli")


@cache
def _module_help(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO).stdout


def _check_targets(arguments: list[str]) -> None:
    targets = set(re.findall(r"^([\w%-]+):", (REPO / "Makefile").read_text(), re.M))
    for target in arguments:
        if target not in targets:
            raise BadCommand(f"make has no target {target}")


def _check_requirements(arguments: list[str]) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    for word in arguments[1:]:
        match = re.fullmatch(r"(?:\.|chroniker)\[(.+)\]", word)
        for extra in match[1].split(",") if match else ():
            if extra not in project["optional-dependencies"]:
                raise BadCommand(f"there is no extra {extra}")


def _check_paths(arguments: list[str]) -> None:
    for word in arguments:
        if word.startswith("tests/") and not (REPO / word.partition("::")[0]).exists():
            raise BadCommand(f"there is no {word}")


def _check_script(program: str, arguments: list[str]) -> None:
    if not (REPO / program).exists():
        raise BadCommand(f"there is no {program}")
    if program == "scripts/with-services":
        check_command(arguments)
