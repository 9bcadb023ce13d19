"""The page of a run: why it failed, its facts and its output."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, Subquery
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from chroniker.enums import FAILURE_REASONS, RunStatus, Stream
from chroniker.exceptions import CommandRefused
from chroniker.models import JobState, Run
from chroniker.site_tasks import TaskArguments

from . import formats, run_columns, run_output
from .estimates import estimated_end
from .output_segments import Segment

Fact = tuple[str, object]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Other runs of the same job, by their keys."""

    previous: int | None
    next: int | None
    last_good: int | None


def find_neighbours(run: Run) -> Neighbours:
    """The run before, the run after, and the last one before that succeeded; one query."""
    others = Run.objects.filter(job=OuterRef("job"))
    before = others.filter(id__lt=OuterRef("pk")).order_by("-id").values("id")
    after = others.filter(id__gt=OuterRef("pk")).order_by("id").values("id")
    good = before.filter(status=RunStatus.SUCCEEDED)
    found = (
        Run.objects.filter(pk=run.pk)
        .annotate(previous=Subquery(before[:1]), following=Subquery(after[:1]),
                  good=Subquery(good[:1]))
        .values_list("previous", "following", "good")
        .first()
    )  # fmt: skip
    return Neighbours(*(found or (None, None, None)))


def problem_context(run: Run, *, may_view_output: bool) -> dict[str, object]:
    """Why the run failed: its error, and the last lines of stderr."""
    failed = run.status in FAILURE_REASONS
    stderr = run_output.last_lines(run, Stream.STDERR) if failed and may_view_output else ""
    return {"run": run, "failed": failed, "last_stderr": Segment("stderr", stderr)}


def headline(run: Run) -> SafeString | str:
    """The status."""
    return run_columns.status(run)


def facts(run: Run, *, job_link: str, now: datetime) -> list[Fact]:
    """Times, host and resources, in the order in which they are read."""
    running = run.status == RunStatus.RUNNING
    rows: list[Fact] = [(_("job"), job_link), (_("trigger"), run.get_trigger_display())]
    if run.attempt > 1:
        rows.append((_("attempt"), run.attempt))
    if run.status == RunStatus.MISSED:
        rows.append((_("missed"), run_columns.missed(run)))
    if run.args is not None:
        rows.append((_("arguments of this run"), _arguments(run) or _("none")))
    rows += [
        (_("scheduled for"), run_columns.scheduled(run)),
        (_("started"), run_columns.started(run)),
    ]
    state = JobState.objects.filter(current_run=run).first() if running else None
    if state is not None:
        end = estimated_end(run.job, state)
        rows += [
            (_("progress"), formats.progress(state.parts_done, state.parts_total)),
            (_("expected to end"), formats.relative_time(end) if end else formats.EMPTY),
        ]
    else:
        rows += [
            (_("ended"), run_columns.ended(run)),
            (_("duration"), run_columns.duration(run)),
        ]
        if run.parts_done is not None:
            rows.append((_("progress"), run_columns.progress(run)))
    rows.append((_("ran on"), run_columns.ran_on(run)))
    if run.task_result_id:
        rows.append((_("task result"), run.task_result_id))
    if run.host:
        rows.append((_("placement"), run_columns.placement(run)))
    if run.pid is not None:
        rows.append((_("process ID"), run_columns.process_id(run)))
    if not running:
        rows += [
            (_("exit status"), run_columns.exit_status(run)),
            (_("CPU time"), run_columns.cpu_time(run)),
            (_("peak memory"), run_columns.peak_memory(run)),
        ]
    return rows


def _arguments(run: Run) -> str:
    """The arguments that were chosen for a run, as its job shows them."""
    if not run.args or not run.job.task:
        return run.args or ""
    try:
        return str(TaskArguments.load(run.args))
    except CommandRefused:  # the job ran a command then
        return run.args


def kept_sentences(run: Run, stored: dict[str, int]) -> list[str]:
    """How much of each stream is stored, and how much is not."""
    written = {
        Stream.STDOUT: run.stdout_bytes, Stream.STDERR: run.stderr_bytes, Stream.LOG: run.log_bytes,
    }  # fmt: skip
    sentences = []
    for stream, total in written.items():
        kept = stored.get(stream, 0)
        size = filesizeformat(kept)
        if run.ended_at is None:
            if kept:
                sentences.append(_("%(stream)s: %(size)s so far.")
                                 % {"stream": stream.label, "size": size})  # fmt: skip
        elif total > kept:
            sentences.append(
                _("%(stream)s: %(size)s of %(total)s are stored, the rest was not kept.")
                % {"stream": stream.label, "size": size, "total": filesizeformat(total)}
            )
        elif kept:
            sentences.append(_("%(stream)s: all %(size)s are stored.")
                             % {"stream": stream.label, "size": size})  # fmt: skip
    return sentences
