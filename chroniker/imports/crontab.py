"""A crontab: its lines become jobs."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chroniker.exceptions import ScheduleError
from chroniker.schedules import parse

from .definitions import Import, ImportedJob, UniqueNames

_VARIABLE = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
_TITLE = re.compile(r"\w(?!.*\*\s+\*)")
"""Not the diagram of the fields, which many crontabs have above their lines."""
_ZONES = ("CRON_TZ", "TZ")
_MAX_TITLE = 150
_SET_VARIABLE = (
    "Set it in the environment of the tick, before the command of its crontab line or in its "
    "systemd unit; or put it into a script with the command."
)
_REDIRECTION = re.compile(r"\s*(?:[12&]?>>?\s*(?:&[12]|/dev/null)|\|\s*logger\b[^|;&]*)\s*$")
_SHELL = re.compile(r"[|&;<>$`*?\n]|^\s*\(|\s~")
_CHANGE_DIRECTORY = re.compile(r"^\s*cd\s+(\"[^\"]*\"|'[^']*'|\S+?)\s*(?:&&|;)\s*")


_BUILTINS = frozenset(
    (".", "source", "exec", "export", "cd", "umask", "ulimit", "set", "unset", "eval", "command",
     "time", "test", "if", "for", "while", "case", "!", "{")
)  # fmt: skip
"""Words that only a shell understands at the beginning of a command."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    schedule: str
    user: str
    """Empty if the lines name none."""
    command: str
    comment: str
    zone: str
    path: str
    """The PATH that the crontab sets."""


def read_crontab(text: str, *, zone: str, has_user: bool, project: Path) -> Import:
    """Translate the lines of a crontab. ``zone`` is the time zone of the machine.

    ``project`` is the directory of this site's ``manage.py``: its commands become commands of
    jobs, everything else raw commands.
    """
    result = Import()
    names = UniqueNames()
    for line in _lines(text, zone, has_user, result):
        job = _translate(line, names, project, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _lines(text: str, zone: str, has_user: bool, result: Import) -> Iterator[_Line]:
    comment = path = ""
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            comment = line.lstrip("# ").strip()
            if not _TITLE.match(comment):
                comment = ""
            continue
        if variable := _VARIABLE.fullmatch(line):
            if variable[1] in _ZONES:
                zone = variable[2].strip("\"'")
            elif variable[1] == "PATH":
                path = variable[2].strip("\"'")
            elif variable[1] not in ("SHELL", "MAILTO", "HOME", "LOGNAME"):
                result.refuse(f"line {number}", f"the variable {variable[1]}", _SET_VARIABLE)
            continue
        fields = 1 if line.startswith("@") else 5
        parts = line.split(maxsplit=fields + has_user)
        if len(parts) <= fields + has_user:
            result.refuse(f"line {number}", f"it is incomplete: {line}", "Fix the line.")
            continue
        user = parts[fields] if has_user else ""
        yield _Line(number, " ".join(parts[:fields]), user, parts[-1], comment, zone, path)
        comment = ""


def _translate(
    line: _Line, names: UniqueNames, project: Path, result: Import
) -> ImportedJob | None:
    command, directory = _simplified(line.command)
    label = line.comment or f"line {line.number}"
    name = names.claim((line.comment or " ".join(_words(command)))[:_MAX_TITLE], str(line.number))
    if _is_tick(_words(command), directory, project):
        return None
    if line.schedule == "@reboot":
        result.refuse(label, "it runs when the machine starts", "Let systemd start it.")
        return None
    try:
        parse(line.schedule, zone=line.zone)
    except ScheduleError as error:
        result.refuse(label, f"its schedule: {error.reason}", "Fix the line, and import again.")
        return None
    if problem := _problem(command):
        result.refuse(label, *problem)
        return None
    fields = _command_fields(_words(command), directory, project)
    return ImportedJob(
        key=str(line.number),
        name=name,
        fields={"schedule": line.schedule, "timezone": line.zone, **fields},
        notes=tuple(_notes(line, directory, fields["raw_command"])),
    )


def _problem(command: str) -> tuple[str, str] | None:
    """Return why a command cannot be that of a job, and what to do."""
    if re.search(r"(?<!\\)%", command):
        return "it passes a standard input (%)", "Write the text to a file, or into the job."
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"its quotes: {error}", "Fix the line, and import again."
    if not words:
        return "it has no command", "Fix the line, and import again."
    first = words[0]
    if _SHELL.search(command) or first in _BUILTINS:
        return (
            f"it needs a shell: {command}",
            "Put it into a script, and let the job run the script as a raw command.",
        )
    if _ASSIGNMENT.match(first):
        variable = first.partition("=")[0]
        return f"it sets the variable {variable} for its command", _SET_VARIABLE
    return None


def _notes(line: _Line, directory: str, raw_command: str) -> Iterator[str]:
    if line.user:
        yield f"it ran as {line.user}; a job runs as the user of the tick"
    if directory and raw_command:
        yield f"it ran in {directory}; a job runs in the directory of the site"
    program = raw_command.split(" ", 1)[0]
    if line.path and program and not os.path.isabs(program):
        yield f"the crontab sets PATH={line.path}; write the whole path of {program}"


def _words(command: str) -> list[str]:
    """Split a command as a shell does; if its quotes are wrong, at blanks."""
    try:
        return shlex.split(command.replace("\\%", "%"))
    except ValueError:
        return command.split()


def _simplified(command: str) -> tuple[str, str]:
    """Remove redirections at the end and a ``cd`` at the beginning; also return its directory."""
    while (shorter := _REDIRECTION.sub("", command)) != command:
        command = shorter
    found = _CHANGE_DIRECTORY.match(command)
    if found is None:
        return command, ""
    return command[found.end() :], found[1].strip("\"'")


def _is_tick(words: list[str], directory: str, project: Path) -> bool:
    """Whether a line ticks this site."""
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    if words and os.path.basename(words[0]) == "chroniker":
        return True
    return _command_fields(words, directory, project)["command"] in ("cron", "cronserver")


def _command_fields(words: list[str], directory: str, project: Path) -> dict[str, str]:
    """Return the fields of the command: one of this site, or a raw command."""
    for at, word in enumerate(words[:2]):
        if os.path.basename(word) != "manage.py" or at + 1 >= len(words):
            continue
        if (Path(directory or ".") / word).resolve().parent != project and (
            directory or os.path.isabs(word)
        ):
            break
        args = shlex.join(words[at + 2 :])
        return {"command": words[at + 1], "args": args, "raw_command": ""}
    return {"command": "", "args": "", "raw_command": shlex.join(words)}
