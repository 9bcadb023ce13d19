"""Declare jobs in Python. ``manage.py chroniker_jobs apply`` creates them.

A decorator on the class of a command, or a module ``chroniker_jobs`` in an app::

    @scheduled("H 3 * * *", team="shop")
    class Command(BaseCommand): ...

    declare("warm cache", command="warm_cache", schedule="@every 10m")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

C = TypeVar("C", bound=type)


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


def scheduled(schedule: str, *, name: str = "", **fields: Any) -> Callable[[C], C]:
    """Declare a job for the management command whose class is decorated.

    Parameters:
        schedule: its default schedule
        name: the name of the job; by default that of the command
        fields: other fields of the job, as in a file of ``chroniker_jobs``
    """

    def declare_command(command: C) -> C:
        module = command.__module__
        command_name = module.rpartition(".")[2]
        _add(
            DeclaredJob(
                name or command_name,
                module,
                "jobs",
                {"command": command_name, "schedule": schedule, **fields},
            )
        )
        return command

    return declare_command


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
