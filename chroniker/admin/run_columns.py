"""The columns of the list of runs, and the facts on the page of a run."""

from __future__ import annotations

import signal

from django.contrib import admin
from django.contrib.humanize.templatetags.humanize import intcomma
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.enums import RunStatus
from chroniker.models import Run

from . import formats


@admin.display(description=gettext_lazy("run"), ordering="id")
def number(run: Run) -> str:
    """The primary key, without thousands separators, as metrics and emails show it."""
    return str(run.pk)


@admin.display(description=gettext_lazy("job"), ordering="job__name")
def job_name(run: Run) -> str:
    """The job's name as plain text, because the list links to the run, and the host."""
    return format_html("{}<br><small>{}</small>", run.job.name, run.ran_on or run.host)


@admin.display(description=gettext_lazy("status"), ordering="status")
def status_and_exit(run: Run) -> str:
    """The status, and how the process ended unless it was with exit code 0."""
    if not run.signal and not run.exit_code:
        return status(run)
    ending = exit_status(run)
    if not run.signal:
        ending = _("exit code %(code)s") % {"code": ending}
    return format_html("{}<br><small>{}</small>", status(run), ending)


@admin.display(description=gettext_lazy("started"), ordering="started_at")
def started_by(run: Run) -> str:
    """When the run started and what started it; of a missed run, its slot."""
    if run.started_at is None:
        return format_html("<small>{} {}</small>", _("scheduled for"), scheduled(run))
    return format_html("{}<br><small>{}</small>", started(run), run.get_trigger_display())


@admin.display(description=gettext_lazy("status"), ordering="status")
def status(run: Run) -> str:
    """The status, and the reason if the run was missed."""
    if run.status == RunStatus.MISSED:
        return format_html("{} {}", formats.run_status(run.status), run.get_missed_reason_display())
    return formats.run_status(run.status)


@admin.display(description=gettext_lazy("scheduled for"), ordering="scheduled_for")
def scheduled(run: Run) -> str:
    """The slot, in the job's time zone."""
    return formats.time_text(run.scheduled_for, run.job.timezone)


@admin.display(description=gettext_lazy("started"), ordering="started_at")
def started(run: Run) -> str:
    """When the run started."""
    return formats.time_html(run.started_at, run.job.timezone)


@admin.display(description=gettext_lazy("ended"))
def ended(run: Run) -> str:
    """When the run ended."""
    return formats.time_html(run.ended_at, run.job.timezone)


@admin.display(description=gettext_lazy("duration"), ordering="duration_seconds")
def duration(run: Run) -> str:
    """The duration; for an active run, the time since its start."""
    if run.status == RunStatus.RUNNING and run.started_at:
        return formats.duration(max(0.0, (utc_now() - run.started_at).total_seconds())) + " …"
    return formats.duration(run.duration_seconds)


@admin.display(description=gettext_lazy("exit status"), ordering="exit_code")
def exit_status(run: Run) -> str:
    """The exit code, or the signal that ended the process."""
    if run.signal:
        try:
            return f"{signal.Signals(run.signal).name} ({run.signal})"
        except ValueError:
            return _("signal %d") % run.signal
    return formats.EMPTY if run.exit_code is None else str(run.exit_code)


@admin.display(description=gettext_lazy("ran on"), ordering="ran_on")
def ran_on(run: Run) -> str:
    """The host that ran it."""
    return run.ran_on or run.host or formats.EMPTY


@admin.display(description=gettext_lazy("placement"))
def placement(run: Run) -> str:
    """The host, if the job runs on every host."""
    return run.host or _("any one host")


@admin.display(description=gettext_lazy("process ID"))
def process_id(run: Run) -> str:
    """The process ID of the session leader, on the host."""
    return formats.EMPTY if run.pid is None else str(run.pid)


@admin.display(description=gettext_lazy("missed"))
def missed(run: Run) -> str:
    """How many slots this row represents, and why they were not run."""
    if run.status != RunStatus.MISSED:
        return formats.EMPTY
    return _("%(number)s slots (%(reason)s)") % {
        "number": intcomma(run.missed_slots),
        "reason": run.get_missed_reason_display(),
    }


@admin.display(description=gettext_lazy("CPU time"))
def cpu_time(run: Run) -> str:
    """CPU time of the whole process tree."""
    return formats.duration(run.cpu_seconds)


@admin.display(description=gettext_lazy("peak memory"))
def peak_memory(run: Run) -> str:
    """Peak resident memory of the largest process."""
    return formats.EMPTY if run.max_rss_bytes is None else filesizeformat(run.max_rss_bytes)


@admin.display(description=gettext_lazy("progress"))
def progress(run: Run) -> str:
    """Parts done of the total."""
    return formats.progress(run.parts_done, run.parts_total)
