"""The table of an import, for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chroniker.models import Job

from .writer import Action, ImportResult, Written

_WIDTH = 40
_PAST = {Action.CREATED: "created", Action.EXISTS: "exists", Action.REFUSED: "refused"}


def report(result: ImportResult, now: datetime, *, dry_run: bool) -> Iterator[str]:
    """Yield the lines of the report."""
    rows = [("", "job", "command", "schedule", "next run (UTC)")]
    rows += [_row(entry, now, dry_run=dry_run) for entry in result.written]
    widths = [min(_WIDTH, max(len(row[at]) for row in rows)) for at in range(len(rows[0]))]
    for row, entry in zip(rows, [None, *result.written], strict=True):
        yield "  ".join(
            _cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        if entry is not None and entry.action is Action.CREATED:
            for note in entry.job.notes:
                yield f"{'':<{widths[0]}}  note: {note}"
    if result.problems:
        yield ""
        yield "Not taken over:"
        for problem in result.problems:
            yield f"- {problem.job}: {problem.what}"
            yield f"  {problem.remedy}"
    yield ""
    yield _summary(result, dry_run=dry_run)


def _row(entry: Written, now: datetime, *, dry_run: bool) -> tuple[str, str, str, str, str]:
    action = str(entry.action) if dry_run else _PAST[entry.action]
    job = entry.row
    if job is None:
        fields = entry.job.fields
        command = next(
            (str(fields[n]) for n in ("command", "task", "raw_command") if fields.get(n)), ""
        )
        return action, entry.job.name, command, str(fields.get("schedule") or ""), ""
    return action, job.name, job.work, job.schedule or "none", _next_run(job, now)


def _next_run(job: Job, now: datetime) -> str:
    if not job.enabled:
        return "disabled"
    since = now
    if job.schedule.startswith("@every"):
        since = min(job.created_at, now)
    slots = job.parsed_schedule().upcoming(since, 1)
    return f"{slots[0]:%Y-%m-%d %H:%M:%S}" if slots else "none"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _summary(result: ImportResult, *, dry_run: bool) -> str:
    counts = {action: sum(entry.action is action for entry in result.written) for action in Action}
    verb = "Would create" if dry_run else "Created"
    existing = counts[Action.EXISTS]
    return (
        f"{verb} {_number(counts[Action.CREATED], 'job')}, "
        f"{_number(result.dependencies, 'dependency', 'dependencies')} and "
        f"{_number(result.runs, 'run')}. "
        f"{_number(existing, 'job')} existed and {'was' if existing == 1 else 'were'} left alone. "
        f"{_number(len(result.problems), 'thing')} could not be taken over."
    )


def _number(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
