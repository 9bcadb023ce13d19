"""Declare jobs in Python. ``manage.py chroniker_jobs apply`` creates them.

A decorator on the class of a command or on a task, or a module ``chroniker_jobs`` in an app::

    @scheduled("H 3 * * *", team="shop")
    class Command(BaseCommand): ...

    @scheduled("@hourly")
    @task
    def rebuild(): ...

    declare("warm cache", command="warm_cache", schedule="@every 10m")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class DeclaredJob:
    """A declaration. It is checked when it is applied."""

    name: str
    module: str
    """Where it was declared."""
    section: str
    """``jobs``, or ``monitors`` if it has a kind of probe."""
    fields: Mapping[str, Any] = field(default_factory=dict)


_declared: dict[tuple[str, str], DeclaredJob] = {}


def scheduled(schedule: str, *, name: str = "", **fields: Any) -> Callable[[W], W]:
    """Declare a job for the management command whose class, or for the task that is decorated.

    Parameters:
        schedule: its default schedule
        name: the name of the job; by default that of the command or the task
        fields: other fields of the job, as in a file of ``chroniker_jobs``
    """

    def declare_work(work: W) -> W:
        path: str = getattr(work, "module_path", "")  # of a task
        module = path.rpartition(".")[0] or work.__module__
        short_name = (path or module).rpartition(".")[2]
        runs = {"task": path} if path else {"command": short_name}
        _add(
            DeclaredJob(
                name or short_name, module, "jobs", {**runs, "schedule": schedule, **fields}
            )
        )
        return work

    return declare_work


def declare(name: str, **fields: Any) -> None:
    """Declare a job or, with ``kind``, a monitor. Call it in a module ``chroniker_jobs``."""
    import sys

    module = sys._getframe(1).f_globals.get("__name__", "")
    _add(DeclaredJob(name, module, "monitors" if "kind" in fields else "jobs", fields))


def declared_jobs() -> list[DeclaredJob]:
    """Return what the modules that have been imported declare."""
    return list(_declared.values())


def _add(job: DeclaredJob) -> None:
    _declared[job.module, job.name] = job
