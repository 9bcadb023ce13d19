"""The results of enqueued tasks."""

from __future__ import annotations

from chroniker.exceptions import CommandRefused

from .library import Task, TaskError, library_of


def check_backend(task: Task) -> None:
    """Raise CommandRefused unless the backend of a task gives results to other processes.

    A backend that executes the task within ``enqueue`` needs not: it returns the result.
    """
    backend, library = task.get_backend(), library_of(task)
    if getattr(backend, "supports_get_result", False) or (
        library and library.executes_at_once(backend)
    ):
        return
    raise CommandRefused(
        f"The task backend {task.backend!r} ({type(backend).__name__}) does not store results, so "
        "a run cannot be followed to its end. Turn enqueue off, or configure a backend that "
        "stores results in TASKS."
    )


def describe_error(error: TaskError) -> str:
    """The exception that ended a task, as the last lines of its traceback."""
    name = error.exception_class_path.removeprefix("builtins.")
    lines = error.traceback.rstrip().splitlines()
    for number in range(len(lines) - 1, -1, -1):
        if lines[number] == name or lines[number].startswith(f"{name}:"):
            return "\n".join(lines[number:])
    return lines[-1].strip() if lines else name
