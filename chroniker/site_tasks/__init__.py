"""The site's tasks: functions with the decorator ``task`` of ``django.tasks`` or its backport."""

from .arguments import TaskArguments, argument_errors, check_task_arguments, describe_task
from .discovery import FoundTasks, check_task, find_tasks, import_task_modules, load_task
from .library import Backend, Task, TaskContext, TaskLibrary, TaskResult, has_library, library_of
from .results import check_backend, describe_error

__all__ = [
    "Backend",
    "FoundTasks",
    "Task",
    "TaskArguments",
    "TaskContext",
    "TaskLibrary",
    "TaskResult",
    "argument_errors",
    "check_backend",
    "check_task",
    "check_task_arguments",
    "describe_error",
    "describe_task",
    "find_tasks",
    "has_library",
    "import_task_modules",
    "library_of",
    "load_task",
]
