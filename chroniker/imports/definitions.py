"""What is taken over: neutral definitions that every source is translated into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chroniker.enums import RunStatus

NOT_TAKEN_OVER = 3
"""The exit code if something could not be taken over."""
_MAX_NAME = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be taken over, and what to do about it."""

    job: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ImportedDependency:
    """A job that another one waits for. ``upstream`` is its key in the source."""

    upstream: str
    wait_for_completion: bool = True
    wait_for_success: bool = True
    wait_for_next_run: bool = False


@dataclass(frozen=True, slots=True)
class ImportedRun:
    """A run of the past."""

    status: RunStatus
    started_at: datetime
    ended_at: datetime | None
    ran_on: str = ""
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class ImportedMonitor:
    """The probe of a monitor: fields of ``chroniker_monitors.Probe``."""

    kind: str
    params: Mapping[str, object]
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportedJob:
    """A job as it will be created."""

    key: str
    name: str
    fields: Mapping[str, object]
    """Fields of :class:`chroniker.models.Job` other than the name."""
    subscribers: tuple[Any, ...] = ()
    """Primary keys of users, of whatever type the user model has."""
    upstream: tuple[ImportedDependency, ...] = ()
    runs: tuple[ImportedRun, ...] = ()
    last_run: ImportedRun | None = None
    """The last run, if it is not among ``runs``."""
    monitor: ImportedMonitor | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class UniqueNames:
    """Names are labels of metrics, so the second job of a name gets its key appended.

    Claim a name for each row of the source, also for those that are refused: then a second import,
    after a problem is fixed, finds the same names.
    """

    _taken: set[str] = field(default_factory=set)

    def claim(self, text: str, key: str) -> str:
        """Return the name of a job: ``text`` on one line, and ``#KEY`` if it is taken."""
        base = " ".join(text.split())[:_MAX_NAME]
        name, mark = base, ""
        while name.casefold() in self._taken:  # some databases compare so
            mark += f" #{key}"
            name = base[: _MAX_NAME - len(mark)] + mark
        self._taken.add(name.casefold())
        return name


@dataclass(slots=True)
class Import:
    """All that a source contains."""

    jobs: list[ImportedJob] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, job: str, what: str, remedy: str) -> None:
        """Note what cannot be taken over."""
        self.problems.append(Problem(job, what, remedy))

    def refuse_arguments(self, job: str, text: str) -> None:
        """Note arguments that cannot be read."""
        self.refuse(
            job,
            f"its arguments cannot be read: {text}",
            "It was created disabled. Enter its arguments in the admin, and enable it.",
        )
