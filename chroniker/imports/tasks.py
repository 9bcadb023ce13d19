"""Tasks and functions of other schedulers: what does their work here."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from chroniker.exceptions import ChronikerError, CommandRefused
from chroniker.site_tasks import load_task

from .definitions import Import


@dataclass(frozen=True, slots=True)
class TaskMap:
    """Which command, or task of ``django.tasks``, replaces which task, as the user says."""

    commands: Mapping[str, str] = field(default_factory=dict)
    """A task has dots in its name, a command has none."""

    def name_of(self, job: str, task: str, result: Import) -> str:
        """Return what replaces a task; if there is nothing, note a problem and return nothing.

        A task that is one of ``django.tasks`` by now needs no replacement.
        """
        name = self.commands.get(task, "")
        if not name and _is_task(task):
            return task
        if not name:
            result.refuse(
                job,
                f"it calls the function {task}, which is neither a management command nor a task "
                "of django.tasks",
                "Decorate it with @task of django.tasks, or write a command that calls it, and "
                f"import again with --map {task}=NAME.",
            )
        return name


def work_fields(
    job: str,
    name: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    result: Import,
) -> dict[str, object]:
    """Return the fields of a job that runs a command or, if its name has dots, a task."""
    if "." in name:
        return {"task": name, "task_args": list(args), "task_kwargs": dict(kwargs)}
    return {"command": name, "args": command_line(job, args, kwargs, result)}


def _is_task(path: str) -> bool:
    try:
        load_task(path)
    except CommandRefused:
        return False
    return True


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


class Unreadable(ChronikerError):
    """The arguments of a task are not in the form that its scheduler wants: ``text``."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def parse_json(text: object, default: object) -> object:
    """Parse JSON; ``default`` if there is none. Raises Unreadable."""
    try:
        return json.loads(str(text)) if text else default
    except (ValueError, RecursionError) as error:
        raise Unreadable(str(text)) from error


def parse_positional(text: object) -> tuple[object, ...]:
    """Parse a tuple of Python literals, or a single one; none is evaluated. Raises Unreadable."""
    if not text:
        return ()
    found = _literal(str(text))
    return found if isinstance(found, tuple) else (found,)


def parse_keywords(text: object) -> dict[str, object]:
    """Parse ``a=1, b="x"`` or a dict of literals; none is evaluated. Raises Unreadable."""
    if not text:
        return {}
    try:
        found = _literal(str(text))
    except Unreadable:
        return _keywords(str(text))
    if not isinstance(found, dict):
        raise Unreadable(str(text))
    return {str(key): value for key, value in found.items()}


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Unreadable(text) from error


def _keywords(text: str) -> dict[str, object]:
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise Unreadable(text)
        if not all(word.arg for word in call.keywords):  # f(**something)
            raise Unreadable(text)
        return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise Unreadable(text) from error


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
