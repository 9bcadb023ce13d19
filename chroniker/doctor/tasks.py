"""Tasks: whether the jobs that run tasks could start, and what is not found."""

from __future__ import annotations

from collections.abc import Iterator

from chroniker.exceptions import CommandRefused
from chroniker.models import Job
from chroniker.site_tasks import argument_errors, check_backend, find_tasks, load_task

from .findings import Area, Finding, Level
from .registry import Installation, Needs, examination

_SHOWN = 5


@examination(Area.TASKS)
def examine_modules(installation: Installation) -> Iterator[Finding]:
    """Find modules of tasks that cannot be imported."""
    for name, reason in find_tasks().errors.items():
        yield Finding(
            Area.TASKS,
            "tasks.not-loaded",
            Level.WARNING,
            f"The tasks of {name} are not found: {reason}",
            "Correct the module, or the entry of CHRONIKER_ALLOWED_TASKS.",
        )


@examination(Area.TASKS, Needs.TABLES)
def examine_jobs(installation: Installation) -> Iterator[Finding]:
    """Find enabled jobs whose task cannot be called."""
    jobs = Job.objects.filter(enabled=True).exclude(task="").order_by("name")
    broken = [(job.name, reason) for job in jobs for reason in _problems(job)]
    for name, reason in broken[:_SHOWN]:
        yield Finding(
            Area.TASKS,
            "tasks.unusable",
            Level.ERROR,
            f"The job {name} cannot run its task: {reason}",
            "Correct the job in the admin or the task, or disable the job.",
        )
    if len(broken) > _SHOWN:
        yield Finding(
            Area.TASKS,
            "tasks.unusable",
            Level.ERROR,
            f"{len(broken) - _SHOWN} more jobs cannot run their tasks.",
            "Correct the jobs above first, and run chroniker_doctor again.",
        )


@examination(Area.TASKS, Needs.TABLES)
def examine_endless_waits(installation: Installation) -> Iterator[Finding]:
    """Find jobs that wait for ever if no worker takes their task."""
    jobs = Job.objects.filter(enabled=True, enqueue=True, timeout_seconds=None)
    names = list(jobs.order_by("name").values_list("name", flat=True)[:_SHOWN])
    if names:
        yield Finding(
            Area.TASKS,
            "tasks.no-timeout",
            Level.WARNING,
            f"These jobs enqueue their task and have no timeout: {', '.join(names)}. If no worker "
            "takes the task, the run never ends.",
            "Give each of them a timeout.",
        )


def _problems(job: Job) -> Iterator[str]:
    """Yield at most one reason."""
    try:
        task = load_task(job.task)
        if job.enqueue:
            check_backend(task)
    except CommandRefused as error:
        yield str(error)
        return
    errors = argument_errors(task, job.task_args, job.task_kwargs)
    yield from [message for found in errors.values() for message in found][:1]
