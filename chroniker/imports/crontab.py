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

from .definitions import Import, ImportedJob

_VARIABLE = re.compile(r"\s*(\w+)\s*=\s*(.*?)\s*")
_TITLE = re.compile(r"\w(?!.*\*\s+\*)")
"""Not the diagram of the fields, which many crontabs have above their lines."""
_ZONES = ("CRON_TZ", "TZ")
_REDIRECTION = re.compile(r"\s*(?:[12&]?>>?\s*(?:&[12]|/dev/null)|\|\s*logger\b[^|;&]*)\s*$")
_SHELL = re.compile(r"[|&;<>$`*?\n]|^\s*\(|\s~")
_CHANGE_DIRECTORY = re.compile(r"^\s*cd\s+(\"[^\"]*\"|'[^']*'|\S+?)\s*(?:&&|;)\s*")


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    schedule: str
    command: str
    comment: str
    zone: str


def read_crontab(text: str, *, zone: str, has_user: bool, project: Path) -> Import:
    """Translate the lines of a crontab. ``zone`` is the time zone of the machine.

    ``project`` is the directory of this site's ``manage.py``: its commands become commands of
    jobs, everything else raw commands.
    """
    result = Import()
    names: set[str] = set()
    for line in _lines(text, zone, has_user, result):
        job = _translate(line, names, project, result)
        if job is not None:
            result.jobs.append(job)
    return result


def _lines(text: str, zone: str, has_user: bool, result: Import) -> Iterator[_Line]:
    comment = ""
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
            elif variable[1] not in ("SHELL", "PATH", "MAILTO", "HOME", "LOGNAME"):
                result.refuse(
                    f"line {number}",
                    f"the variable {variable[1]}",
                    "Set it in the environment of the tick: before the command of the crontab "
                    "line, or in the unit of systemd.",
                )
            continue
        fields = 1 if line.startswith("@") else 5
        parts = line.split(maxsplit=fields + has_user)
        if len(parts) <= fields + has_user:
            result.refuse(f"line {number}", f"it is incomplete: {line}", "Fix the line.")
            continue
        yield _Line(number, " ".join(parts[:fields]), parts[-1], comment, zone)
        comment = ""


def _translate(line: _Line, names: set[str], project: Path, result: Import) -> ImportedJob | None:
    label = line.comment or f"line {line.number}"
    if line.schedule == "@reboot":
        result.refuse(label, "it runs when the machine starts", "Let systemd start it.")
        return None
    try:
        parse(line.schedule, zone=line.zone)
    except ScheduleError as error:
        result.refuse(label, f"its schedule: {error.reason}", "Fix the line, and import again.")
        return None
    command, directory = _simplified(line.command)
    if re.search(r"(?<!\\)%", command):
        result.refuse(
            label, "it passes a standard input (%)", "Write the text to a file, or into the job."
        )
        return None
    command = command.replace("\\%", "%")
    if _SHELL.search(command):
        result.refuse(
            label,
            f"it needs a shell: {command}",
            "Put it into a script, and let the job run the script as a raw command.",
        )
        return None
    try:
        words = shlex.split(command)
    except ValueError as error:
        result.refuse(label, f"its quotes: {error}", "Fix the line, and import again.")
        return None
    fields = _command_fields(words, directory, project)
    if fields is None:
        return None  # the tick itself
    name = _unique(line.comment[:150] or " ".join(words)[:150], line.number, names)
    notes = []
    if directory and fields["raw_command"]:
        notes.append(f"it ran in {directory}; a job runs in the directory of the site")
    return ImportedJob(
        key=str(line.number),
        name=name,
        fields={"schedule": line.schedule, "timezone": line.zone, **fields},
        notes=tuple(notes),
    )


def _simplified(command: str) -> tuple[str, str]:
    """Remove redirections at the end and a ``cd`` at the beginning; also return its directory."""
    while (shorter := _REDIRECTION.sub("", command)) != command:
        command = shorter
    found = _CHANGE_DIRECTORY.match(command)
    if found is None:
        return command, ""
    return command[found.end() :], found[1].strip("\"'")


def _command_fields(words: list[str], directory: str, project: Path) -> dict[str, object] | None:
    """Return the fields of the command; None if it is a tick of Chroniker."""
    for at, word in enumerate(words):
        if os.path.basename(word) != "manage.py" or at > 1 or at + 1 >= len(words):
            continue
        if (Path(directory or ".") / word).resolve().parent != project and (
            directory or os.path.isabs(word)
        ):
            break
        if words[at + 1] in ("cron", "cronserver"):
            return None
        args = shlex.join(words[at + 2 :])
        return {"command": words[at + 1], "args": args, "raw_command": ""}
    if words and os.path.basename(words[0]) == "chroniker":
        return None
    return {"command": "", "args": "", "raw_command": shlex.join(words)}


def _unique(name: str, number: int, names: set[str]) -> str:
    if name.casefold() in names:
        name = f"{name} #{number}"
    names.add(name.casefold())
    return name
