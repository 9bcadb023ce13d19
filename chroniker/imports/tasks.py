"""Tasks and functions of other schedulers: which management command does their work."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from .definitions import Import


@dataclass(frozen=True, slots=True)
class TaskMap:
    """Which command replaces which task, as the user says."""

    commands: Mapping[str, str] = field(default_factory=dict)

    def command_of(self, job: str, task: str, result: Import) -> str:
        """Return the command for a task; without one, note a problem and return nothing."""
        command = self.commands.get(task, "")
        if not command:
            result.refuse(
                job,
                f"it calls the function {task}, and a job runs a management command",
                f"Write a command that calls it, and import again with --map {task}=COMMAND.",
            )
        return command


def command_line(
    job: str, args: Sequence[object], kwargs: Mapping[str, object], result: Import
) -> str:
    """Return arguments as on a command line; note those that have no form there."""
    words: list[str] = []
    for value in args:
        words.append(_word(job, "an argument", value, result))
    for name, value in kwargs.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not False and value is not None:
            words.append(f"{option}={_word(job, name, value, result)}")
    return shlex.join(words)


def _word(job: str, name: str, value: object, result: Import) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    result.refuse(
        job,
        f"{name} is {value!r}, which is no text or number",
        "It was passed as JSON. Let the command parse it.",
    )
    return json.dumps(value, default=str)


def parse_json(text: object) -> object:
    """Parse JSON; None if it is something else."""
    try:
        return json.loads(str(text)) if text else None
    except ValueError:
        return None


def parse_literal(text: object) -> object:
    """Parse a Python literal, which is not evaluated; None if it is something else."""
    try:
        return ast.literal_eval(str(text)) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def parse_keywords(text: object) -> dict[str, object]:
    """Parse ``a=1, b="x"`` or a dict of literals, neither of which is evaluated."""
    found = parse_literal(text)
    if isinstance(found, dict):
        return {str(key): value for key, value in found.items()}
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    except (ValueError, SyntaxError, MemoryError, RecursionError, AssertionError):
        return {}


def as_moment(value: object, zone: str) -> datetime | None:
    """Return a time of a table in UTC. A naive one is in UTC, as Django stores it; or in ``zone``.

    SQLite gives text.
    """
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=ZoneInfo(zone))
    return value.astimezone(UTC)
