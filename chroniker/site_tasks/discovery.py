"""Which tasks a job may run, and how they are found."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import cast

from django.apps import apps

from chroniker.conf import conf
from chroniker.exceptions import CommandRefused

from .library import MISSING, Task, has_library, library_of

MODULE = "tasks"
"""The module of an app that has its tasks; it may be a package."""


@dataclass(slots=True)
class FoundTasks:
    """The tasks of the installed apps that jobs may run."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """By dotted path, sorted."""
    errors: dict[str, str] = field(default_factory=dict)
    """Modules that cannot be imported, with the reason."""


def check_task(path: str) -> None:
    """Raise CommandRefused unless the site lets jobs run the task. Nothing is imported."""
    if not has_library():
        raise CommandRefused(MISSING)
    allowed = conf.ALLOWED_TASKS
    if allowed is not None and path not in allowed:
        raise CommandRefused(
            f"Jobs of this site may not run the task {path!r}. Add it to CHRONIKER_ALLOWED_TASKS, "
            "or use a task that is listed there."
        )
    if allowed is None and not any(path.startswith(f"{name}.") for name in _module_names()):
        raise CommandRefused(
            f"{path!r} is not in the module `tasks` of an installed app. Move the task there, "
            "or list it in CHRONIKER_ALLOWED_TASKS."
        )


def load_task(path: str) -> Task:
    """Return a task that jobs may run. Raises CommandRefused with the reason if there is none."""
    check_task(path)
    name, _, attribute = path.rpartition(".")
    if not name or not attribute:
        raise CommandRefused(f"{path!r} is no dotted path. Enter one such as shop.tasks.rebuild.")
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module of the site raises
        raise CommandRefused(f"The task {path!r} cannot be loaded here: {_reason(error)}") from None
    found = getattr(module, attribute, None)
    if library_of(found) is not None:
        return cast("Task", found)
    if found is not None:
        raise CommandRefused(
            f"{path!r} is not a task. Decorate the function with @task, or choose another one."
        )
    known = [key.removeprefix(f"{name}.") for key in dict(_tasks_in(module))]
    near = get_close_matches(attribute, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its tasks: {', '.join(known) or 'none'}."
    raise CommandRefused(f"The module {name} has no task {attribute!r}. {hint}")


def find_tasks() -> FoundTasks:
    """Import the ``tasks`` modules of all apps, and return the tasks that jobs may run."""
    found = FoundTasks()
    if not has_library():
        return found
    if conf.ALLOWED_TASKS is not None:
        for path in sorted(conf.ALLOWED_TASKS):
            try:
                found.tasks[path] = load_task(path)
            except CommandRefused as error:
                found.errors[path] = str(error)
        return found
    paths: dict[int, tuple[str, Task]] = {}
    for module in _modules(found.errors):
        for path, task in _tasks_in(module):
            at_home = task.func.__module__ == module.__name__
            if at_home or id(task) not in paths:  # another module may only import it
                paths[id(task)] = path, task
    found.tasks = dict(sorted(paths.values(), key=lambda item: item[0]))
    return found


def import_task_modules() -> dict[str, str]:
    """Import the ``tasks`` modules of all apps; return the reason of each that raises, by name."""
    errors: dict[str, str] = {}
    if has_library():
        for _ in _modules(errors):
            pass
    return errors


def _tasks_in(module: ModuleType) -> Iterator[tuple[str, Task]]:
    for name, value in vars(module).items():
        if library_of(value) is not None:
            yield f"{module.__name__}.{name}", value


def _module_names() -> Iterator[str]:
    return (f"{app.name}.{MODULE}" for app in apps.get_app_configs())


def _modules(errors: dict[str, str]) -> Iterator[ModuleType]:
    """Import the modules; those that raise are added to ``errors``."""
    for name in _module_names():
        yield from _modules_from(name, errors)


def _modules_from(name: str, errors: dict[str, str]) -> Iterator[ModuleType]:
    module = _import(name, errors)
    if module is not None:
        yield module
        for info in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            yield from _modules_from(info.name, errors)


def _import(name: str, errors: dict[str, str]) -> ModuleType | None:
    try:
        return import_module(name) if find_spec(name) else None
    except (Exception, SystemExit) as error:  # whatever the module of the site raises
        errors[name] = _reason(error)
        return None


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
