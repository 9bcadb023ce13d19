"""Create the jobs of an import: all in one transaction, and never over an existing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from chroniker.db.alias import atomic, database_alias
from chroniker.models import Job, JobDependency

from .definitions import Import, ImportedJob, Problem
from .history import write_history
from .monitors import MonitorRefused, create_monitor


class Action(StrEnum):
    """What happens to a job of the source."""

    CREATED = "create"
    EXISTS = "exists"
    """A job of this name exists, and is left as it is."""
    REFUSED = "refuse"
    """It cannot be created; a problem says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """What happened to a job."""

    job: ImportedJob
    action: Action
    row: Job | None


@dataclass(slots=True)
class ImportResult:
    """What an import has done, or would do."""

    written: list[Written] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    dependencies: int = 0
    runs: int = 0


def write(found: Import, *, dry_run: bool) -> ImportResult:
    """Create the jobs, their dependencies, subscribers and history.

    With ``dry_run`` the same is done, and rolled back.
    """
    result = ImportResult(problems=list(found.problems))
    with atomic():
        rows: dict[str, Written] = {}
        for job in found.jobs:
            rows[job.key] = _write_job(job, result)
            result.written.append(rows[job.key])
        for job in found.jobs:
            _write_dependencies(job, rows, result)
        for entry in result.written:
            if entry.action is Action.CREATED and entry.row is not None:
                result.runs += write_history(entry.row, entry.job.runs, entry.job.last_run)
        if dry_run:
            transaction.set_rollback(True, using=database_alias())
    return result


def _write_job(job: ImportedJob, result: ImportResult) -> Written:
    existing = Job.objects.filter(name=job.name).first()
    if existing is not None:
        if any(entry.row == existing for entry in result.written):
            result.problems.append(
                Problem(
                    job.name,
                    f"the database takes its name for that of {existing.name}",
                    "Rename one of them at the source, and import again.",
                )
            )
            return Written(job, Action.REFUSED, None)
        return Written(job, Action.EXISTS, existing)
    try:
        row = _create(job)
    except ValidationError as error:
        reason, remedy = _explain(error)
        result.problems.append(Problem(job.name, reason, remedy))
        return Written(job, Action.REFUSED, None)
    except MonitorRefused as error:
        remedy = "Define the monitor in the admin."
        result.problems.append(Problem(job.name, str(error), remedy))
        return Written(job, Action.REFUSED, None)
    row.subscribers.set(job.subscribers)
    return Written(job, Action.CREATED, row)


def _create(job: ImportedJob) -> Job:
    if job.monitor is not None:
        with atomic():
            return create_monitor(job.name, job.fields, job.monitor)
    fields: Mapping[str, Any] = job.fields
    row = Job(name=job.name, **fields)
    row.full_clean()
    row.save()
    return row


def _explain(error: ValidationError) -> tuple[str, str]:
    """Return what is wrong, and what to do."""
    fields = error.message_dict if hasattr(error, "error_dict") else {}
    text = "; ".join(error.messages)
    if "raw_command" in fields:
        return text, "Set CHRONIKER_ALLOW_RAW_COMMANDS = True, and import again."
    if "task" in fields:
        return text, "Correct the task or allow it, and import again."
    if "command" in fields:
        return text, "Install the app that has the command or allow it, and import again."
    return text, "Define the job in the admin."


def _write_dependencies(
    job: ImportedJob, rows: Mapping[str, Written], result: ImportResult
) -> None:
    downstream = rows[job.key]
    for dependency in job.upstream:
        upstream = rows.get(dependency.upstream)
        if downstream.row is None:
            continue
        if upstream is None or upstream.row is None:
            name = upstream.job.name if upstream else dependency.upstream
            result.problems.append(
                Problem(
                    job.name,
                    f"it waits for {name}, which was not taken over",
                    "It waits for nothing now. Define the dependency in the admin.",
                )
            )
            continue
        if Action.CREATED not in (downstream.action, upstream.action):
            continue
        edge = JobDependency(
            downstream=downstream.row,
            upstream=upstream.row,
            wait_for_completion=dependency.wait_for_completion,
            wait_for_success=dependency.wait_for_success,
            wait_for_next_run=dependency.wait_for_next_run,
        )
        try:
            edge.full_clean()
        except ValidationError as error:
            result.problems.append(
                Problem(
                    job.name,
                    f"it waits for {upstream.job.name}: {'; '.join(error.messages)}",
                    "Decide in the admin which of them waits.",
                )
            )
            continue
        edge.save()
        result.dependencies += 1
