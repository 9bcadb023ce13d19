"""What a job runs: a management command, a task or a raw command; one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from chroniker.commands import check_command, check_raw_command, split_args
from chroniker.conf import conf
from chroniker.exceptions import CommandRefused
from chroniker.site_tasks import (
    TaskArguments,
    argument_errors,
    check_backend,
    load_task,
)

if TYPE_CHECKING:
    from .job import Job

Errors = dict[str, list[str]]
"""Messages by the name of the field."""


def describe_work(job: Job) -> str:
    """What the job runs, with its arguments, in one line."""
    if job.task:
        return f"{job.task}({TaskArguments(job.task_args, job.task_kwargs)})"
    return " ".join(f"{job.raw_command or job.command} {job.args}".split())


def work_errors(job: Job) -> Errors:
    """Return why the job could not run, as messages by field. Empty: it could."""
    errors: Errors = {}
    given = [name for name in ("command", "task", "raw_command") if getattr(job, name)]
    if len(given) != 1:
        errors[given[-1] if given else "command"] = [
            "Enter a command, a task or a raw command, and only one of them."
        ]
    if job.raw_command and not conf.ALLOW_RAW_COMMANDS:
        errors.setdefault("raw_command", []).append(
            "This site does not allow raw commands (CHRONIKER_ALLOW_RAW_COMMANDS)."
        )
    elif job.raw_command:
        _collect(errors, "raw_command", check_raw_command, job.raw_command)
    if job.command:
        _collect(errors, "command", check_command, job.command)
    _collect(errors, "args", split_args, job.args)
    if job.task:
        _check_task(job, errors)
    elif job.task_args or job.task_kwargs or job.enqueue:
        name = next(n for n in ("task_args", "task_kwargs", "enqueue") if getattr(job, n))
        errors[name] = ["This is for tasks only. Enter a task, or remove it."]
    return errors


def _check_task(job: Job, errors: Errors) -> None:
    if job.args:
        errors.setdefault("args", []).append(
            "These are the arguments of a command. Enter those of a task in its own fields."
        )
    try:
        task = load_task(job.task)
    except CommandRefused as error:
        errors.setdefault("task", []).append(str(error))
        return
    errors.update(argument_errors(task, job.task_args, job.task_kwargs))
    if job.enqueue:
        try:
            check_backend(task)
        except CommandRefused as error:
            errors["enqueue"] = [str(error)]


def _collect(errors: Errors, field: str, check: Callable[[str], object], text: str) -> None:
    try:
        check(text)
    except CommandRefused as error:
        errors.setdefault(field, []).append(str(error))
