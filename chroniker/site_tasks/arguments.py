"""The arguments of a task: JSON, checked against the signature of its function."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import Parameter

from chroniker.exceptions import CommandRefused

from .library import Task

ARGS, KWARGS = "task_args", "task_kwargs"
"""The fields of a job."""
_NAMES = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes",
    list: "a list", dict: "an object", types.NoneType: "null",
}  # fmt: skip
"""The types that JSON has."""


@dataclass(frozen=True, slots=True)
class TaskArguments:
    """What a task is called with."""

    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)

    def dump(self) -> str:
        """Return it as JSON: ``{"args": […], "kwargs": {…}}``."""
        return json.dumps({"args": list(self.args), "kwargs": dict(self.kwargs)})

    @classmethod
    def load(cls, text: str) -> TaskArguments:
        """Read what :meth:`dump` returned. Raises CommandRefused if it is something else."""
        try:
            values = json.loads(text)
            args, kwargs = values["args"], values["kwargs"]
        except (ValueError, TypeError, KeyError):
            args, kwargs = None, None
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise CommandRefused(
                "The arguments of this run are not those of a task. Request the run again."
            )
        return cls(args, kwargs)

    def __str__(self) -> str:
        """As in a call, with the values as JSON: ``"all", days=7``."""
        values = [_text(value) for value in self.args]
        return ", ".join([*values, *(f"{name}={_text(v)}" for name, v in self.kwargs.items())])


def argument_errors(task: Task, args: object, kwargs: object) -> dict[str, list[str]]:
    """Return why the task cannot be called so: messages by field. Empty: it can."""
    errors: dict[str, list[str]] = {}
    for name, value, kind, example in (
        (ARGS, args, list, '["all", 7]'), (KWARGS, kwargs, dict, '{"days": 7}'),
    ):  # fmt: skip
        reason = _json_error(value)
        if not isinstance(value, kind):
            errors[name] = [f"Enter {_NAMES[kind]} in JSON, such as {example}."]
        elif reason:
            errors[name] = [reason]
    if errors or not isinstance(args, list) or not isinstance(kwargs, dict):
        return errors
    for name, message in _Signature(task).errors(args, kwargs):
        errors.setdefault(name, []).append(message)
    return errors


def check_task_arguments(task: Task, arguments: TaskArguments) -> None:
    """Raise CommandRefused if the task cannot be called with the arguments."""
    errors = argument_errors(task, list(arguments.args), dict(arguments.kwargs))
    if errors:
        raise CommandRefused(" ".join(message for found in errors.values() for message in found))


def describe_task(task: Task) -> str:
    """The signature and the description of a task, for the form."""
    try:
        signature = inspect.signature(task.func, eval_str=True)
    except Exception:  # an annotation may be any expression
        signature = inspect.signature(task.func)
    if task.takes_context:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return f"{task.name}{signature}\n\n{inspect.getdoc(task.func) or ''}".rstrip()


class _Signature:
    """The parameters of a task that a job gives."""

    def __init__(self, task: Task) -> None:
        found = list(inspect.signature(task.func).parameters.values())
        self.parameters = found[1:] if task.takes_context else found  # the context is given to it
        self.call = f"{task.name}()"
        try:
            self._hints = typing.get_type_hints(task.func)
        except Exception:  # an annotation may be any expression
            self._hints = {}

    def of_kind(self, *kinds: object) -> list[Parameter]:
        return [each for each in self.parameters if each.kind in kinds]

    def errors(self, args: list[object], kwargs: dict[str, object]) -> Iterator[tuple[str, str]]:
        """Yield the field and the message of each mistake."""
        by_position = self.of_kind(Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        given = by_position[: len(args)]
        for parameter, value in zip(by_position, args, strict=False):
            yield from self._type_error(ARGS, parameter.name, value)
        extra = args[len(by_position) :]
        if extra and not self.of_kind(Parameter.VAR_POSITIONAL):
            names = ", ".join(each.name for each in by_position) or "none"
            message = (
                f"{self.call} has no argument for {_text(extra[0])}: too many values are given."
            )
            yield ARGS, f"{message} Its arguments by position: {names}."
        yield from self._keyword_errors(kwargs, {each.name for each in given})
        for parameter in self.parameters:
            variable = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
            if variable or parameter in given or parameter.default is not Parameter.empty:
                continue
            only_position = parameter.kind is Parameter.POSITIONAL_ONLY
            if only_position or parameter.name not in kwargs:
                where = ARGS if only_position else KWARGS
                yield where, f"The argument {parameter.name!r} of {self.call} is missing. Add it."

    def _keyword_errors(
        self, kwargs: dict[str, object], given: set[str]
    ) -> Iterator[tuple[str, str]]:
        known = [
            each.name
            for each in self.of_kind(Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        ]
        takes_any = bool(self.of_kind(Parameter.VAR_KEYWORD))
        for name, value in kwargs.items():
            if name in given and name in known:
                message = f"The argument {name!r} is given twice, by position and by name."
                yield KWARGS, f"{message} Remove one."
            elif name in known:
                yield from self._type_error(KWARGS, name, value)
            elif not takes_any:
                near = get_close_matches(name, known, n=1)
                names = f"Its arguments: {', '.join(known) or 'none'}."
                hint = f"Did you mean {near[0]!r}?" if near else names
                yield KWARGS, f"{self.call} has no argument {name!r}. {hint}"

    def _type_error(self, where: str, name: str, value: object) -> Iterator[tuple[str, str]]:
        """Compare a value with its annotation, if that names only types that JSON has."""
        hint = self._hints.get(name)
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        wanted = typing.get_args(hint) if union else (hint,)
        wanted = tuple(typing.get_origin(each) or each for each in wanted)
        if not all(isinstance(each, type) and each in _NAMES for each in wanted):
            return
        kind = type(value)
        if kind not in wanted and not (kind is int and float in wanted):
            names = " or ".join(_NAMES[each] for each in wanted)
            yield where, f"The argument {name!r} must be {names}, not {_text(value)}."


def _json_error(value: object) -> str:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"This cannot be stored as JSON: {error}."
    if "\\u0000" in text.replace("\\\\", ""):
        return "A text must not contain a NUL character. Remove it."
    return ""


_SHOWN = 200


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
