"""In a job's process: call a task, or follow the one that its backend executes."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING

from django.utils.timezone import now as utc_now

from chroniker.conf import conf
from chroniker.site_tasks import (
    Task,
    TaskArguments,
    TaskLibrary,
    check_task_arguments,
    library_of,
    load_task,
)

from .following import Follower, Note

if TYPE_CHECKING:
    from chroniker.processes.child import CommandSpec


def call_task(spec: CommandSpec, note: Note) -> None:
    """Call the task of a run, or have its backend call it. What it returns is written to stdout.

    ``note`` keeps a sentence about a task that its backend executes. Raises what the task raises,
    TypeError if it returns what is not JSON, CommandRefused if there is no such task or it cannot
    be called with these arguments, and TaskNotSuccessful if it failed in its backend.
    """
    task = load_task(spec.task)
    arguments = TaskArguments.load(spec.task_arguments)
    check_task_arguments(task, arguments)
    library = library_of(task)
    assert library is not None
    if spec.enqueue:
        value = Follower(spec.run_id, task, library, note).run(arguments)
    else:
        value = library.normalize(_call(spec, task, library, arguments))
    _write_value(value)


def _call(spec: CommandSpec, task: Task, library: TaskLibrary, arguments: TaskArguments) -> object:
    if not task.takes_context:
        return task.call(*arguments.args, **arguments.kwargs)
    now = utc_now()
    context = library.make_context(
        task,
        id=str(spec.run_id),
        enqueued_at=now,
        started_at=now,
        finished_at=None,
        last_attempted_at=now,
        args=list(arguments.args),
        kwargs=dict(arguments.kwargs),
        errors=[],
        worker_ids=[conf.HOSTNAME] * spec.attempt,  # their number is the attempt
    )
    return task.call(context, *arguments.args, **arguments.kwargs)


def _write_value(value: object) -> None:
    """Write what a task returned as JSON, as Django writes a command's; None is nothing."""
    if value is None:
        return
    text = json.dumps(value, ensure_ascii=False)
    with contextlib.suppress(AttributeError, ValueError):  # the task may have closed or replaced it
        sys.stdout.write(f"{text}\n")
