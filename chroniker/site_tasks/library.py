"""Where tasks come from: ``django.tasks`` (Django 6), or the backport ``django-tasks``.

Both have the same classes in the same modules. Neither is imported unless a task is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

LIBRARIES = ("django.tasks", "django_tasks")
MISSING = (
    "Tasks need Django 6, or django-tasks on Django 5.2. Install it with "
    "`pip install 'chroniker[tasks]'`, and add django_tasks to INSTALLED_APPS."
)


class TaskError(Protocol):
    """How a task failed."""

    exception_class_path: str
    traceback: str


class TaskResult(Protocol):
    """What a backend knows about a task that was enqueued."""

    id: str
    status: str
    """``READY``, ``RUNNING``, ``SUCCESSFUL`` or ``FAILED``."""
    backend: str
    errors: Sequence[TaskError]
    worker_ids: list[str]

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded or failed."""

    @property
    def return_value(self) -> object:
        """What the function returned. Raises ValueError unless it succeeded."""


class TaskContext(Protocol):
    """What a task with ``takes_context`` gets as its first argument."""

    task_result: TaskResult


class Backend(Protocol):
    """What executes the tasks that are enqueued."""

    alias: str
    supports_get_result: bool

    def get_result(self, result_id: str) -> TaskResult:
        """The result. Raises ``TaskResultDoesNotExist``."""


class Task(Protocol):
    """A task of the site."""

    func: Callable[..., object]
    backend: str
    """The alias of its backend."""
    takes_context: bool

    @property
    def name(self) -> str:
        """The name of the function."""

    @property
    def module_path(self) -> str:
        """The dotted path of the function."""

    def call(self, *args: object, **kwargs: object) -> object:
        """Call the function; a coroutine is run to its end."""

    def enqueue(self, *args: object, **kwargs: object) -> TaskResult:
        """Send it to its backend."""

    def get_backend(self) -> Backend:
        """Its backend."""


@dataclass(frozen=True, slots=True)
class TaskLibrary:
    """One of the two, by the name of its package."""

    name: str

    def is_task(self, value: object) -> bool:
        """Whether ``value`` is a task of this library."""
        base = sys.modules.get(f"{self.name}.base")
        return base is not None and isinstance(value, base.Task)

    def make_context(self, task: Task, **facts: object) -> TaskContext:
        """Create the context of a task that no backend executes; ``facts``: of its result."""
        base = import_module(f"{self.name}.base")
        status = base.TaskResultStatus.RUNNING
        result = base.TaskResult(task=task, status=status, backend=task.backend, **facts)
        return cast("TaskContext", base.TaskContext(task_result=result))

    def normalize(self, value: object) -> object:
        """Return a value as backends store it, in the types of JSON. Raises TypeError."""
        module = "django.utils.json" if self.name == "django.tasks" else f"{self.name}.utils"
        return cast("object", import_module(module).normalize_json(value))

    @property
    def no_such_result(self) -> type[Exception]:
        """What a backend raises that does not have a result."""
        exceptions = import_module(f"{self.name}.exceptions")
        return cast("type[Exception]", exceptions.TaskResultDoesNotExist)

    def executes_at_once(self, backend: Backend) -> bool:
        """Whether ``enqueue`` returns the finished result, as in development."""
        immediate = import_module(f"{self.name}.backends.immediate")
        return isinstance(backend, immediate.ImmediateBackend)


def library_of(value: object) -> TaskLibrary | None:
    """The library whose task ``value`` is; None if it is no task."""
    libraries = (TaskLibrary(name) for name in LIBRARIES)
    return next((library for library in libraries if library.is_task(value)), None)


def has_library() -> bool:
    """Whether tasks can exist on this site."""
    return any(_exists(name) for name in LIBRARIES)


def _exists(name: str) -> bool:
    if sys.modules.get(name) is not None:
        return True
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
