"""Whether a task can be called with the arguments of a job, and what is said if not."""

from __future__ import annotations

import functools
from datetime import date
from typing import Any

import pytest

from chroniker.exceptions import CommandRefused
from chroniker.site_tasks import TaskArguments, argument_errors
from chroniker.site_tasks.arguments import describe_task


class FakeTask:
    """What the check reads of a task; the libraries are not needed for it."""

    def __init__(self, func: Any, *, takes_context: bool = False) -> None:
        self.func, self.takes_context, self.name = func, takes_context, func.__name__


def rebuild(shop: str, days: int = 7, *, full: bool = False, share: float | None = None) -> None:
    """Rebuild the index of a shop."""


def anything(*args: Any, **kwargs: Any) -> None: ...


def positional(first: str, /, **rest: int) -> None: ...


def with_context(context: Any, shop: str) -> None: ...


def dated(day: date, rows: list[int], unknown: "NoSuchType") -> None: ...  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (rebuild, ["all"], {}),
        (rebuild, ["all", 3], {"full": True}),
        (rebuild, [], {"shop": "all", "share": 1}),
        (rebuild, ["all"], {"share": None}),
        (anything, [1, {"a": None}], {"b": [2]}),
        (positional, ["x"], {"first": 3}),
        (dated, ["2026-01-01", [1], 1], {}),
    ],
)
def test_arguments_that_fit(func: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    assert argument_errors(FakeTask(func), args, kwargs) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "field", "message"),
    [
        (rebuild, [], {}, "task_kwargs", "The argument 'shop' of rebuild() is missing. Add it."),
        (positional, [], {}, "task_args", "The argument 'first' of positional() is missing."),
        (rebuild, ["a", 1, 2], {}, "task_args", "no argument for 2: too many values"),
        (rebuild, ["a"], {"shop": "b"}, "task_kwargs", "'shop' is given twice"),
        (rebuild, ["a"], {"dayz": 1}, "task_kwargs", "no argument 'dayz'. Did you mean 'days'?"),
        (rebuild, ["a"], {"x": 1}, "task_kwargs", "Its arguments: shop, days, full, share."),
        (rebuild, [7], {}, "task_args", "The argument 'shop' must be text in quotes, not 7."),
        (rebuild, ["a"], {"days": "7"}, "task_kwargs", "'days' must be a whole number, not \"7\""),
        (rebuild, ["a"], {"days": True}, "task_kwargs", "'days' must be a whole number"),
        (rebuild, ["a"], {"share": "x"}, "task_kwargs", "'share' must be a number or null"),
        (rebuild, {"shop": "a"}, {}, "task_args", "Enter a list in JSON"),
        (rebuild, [], ["a"], "task_kwargs", "Enter an object in JSON"),
        (anything, [float("nan")], {}, "task_args", "cannot be stored as JSON"),
        (anything, [date(2026, 1, 1)], {}, "task_args", "cannot be stored as JSON"),
        (anything, ["\ud800"], {}, "task_args", "cannot be stored as JSON"),
        (anything, [], {"a": "\0"}, "task_kwargs", "NUL"),
        (dated, ["d", 1, 1], {}, "task_args", ""),
    ],
)
def test_error_names_the_argument_and_its_field(
    func: Any, args: Any, kwargs: Any, field: str, message: str
) -> None:
    errors = argument_errors(FakeTask(func), args, kwargs)  # type: ignore[arg-type]
    if not message:  # an annotation that cannot be resolved: nothing is known about types
        assert errors == {}
        return
    assert list(errors) == [field]
    assert message in errors[field][0]


def test_context_is_not_an_argument_of_the_job() -> None:
    task: Any = FakeTask(with_context, takes_context=True)
    assert argument_errors(task, ["all"], {}) == {}
    assert "'shop'" in argument_errors(task, [], {})["task_kwargs"][0]
    assert describe_task(task) == "with_context(shop: str) -> None"


def test_decorated_function_has_its_own_signature() -> None:
    @functools.wraps(rebuild)
    def wrapper(*args: Any, **kwargs: Any) -> None: ...

    assert argument_errors(FakeTask(wrapper), [], {})  # type: ignore[arg-type]


def test_arguments_survive_as_text() -> None:
    arguments = TaskArguments(["ü", 1.5], {"full": True})
    assert TaskArguments.load(arguments.dump()) == arguments
    assert str(arguments) == '"ü", 1.5, full=true'


@pytest.mark.parametrize("text", ["--full", "", "[1]", '{"args": {}, "kwargs": {}}', "null"])
def test_text_of_a_command_line_is_refused(text: str) -> None:
    with pytest.raises(CommandRefused, match="Request the run again"):
        TaskArguments.load(text)
