"""What the list of jobs shows in each row, computed once for all columns and for live updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _

from chroniker.models import Job, JobState

from . import formats
from .display_state import DisplayState, current_states, describe_job, last_ended, next_run_at
from .estimates import estimated_end
from .outcomes import outcome_strip, recent_outcomes
from .site_status import SiteStatus

ACTIVE_STATES = ("running", "due", "late")
_ROW = "_chroniker_row"


@dataclass(slots=True)
class JobRow:
    """A job with its states as the list shows them."""

    job: Job
    states: Sequence[JobState]
    display: DisplayState
    outcomes: list[str] = field(default_factory=list)
    run_url: str = ""
    """A run's page, with 0 as the key of the run."""

    @property
    def active(self) -> bool:
        """Whether it is running or about to."""
        return self.display.name in ACTIVE_STATES or any(
            state.lease_token is not None for state in self.states
        )

    def state_html(self) -> SafeString:
        """The badge, what mutes it, the progress, and the detail."""
        muted = _("muted") if getattr(self.job, "is_muted", False) else ""
        progress = total_progress(self.states)
        end = min(
            filter(None, (estimated_end(self.job, state) for state in self.states)), default=None
        )
        return format_html(
            "{}{}{}{}{}",
            formats.badge(self.display.name, self.display.label),
            format_html(" <small>{}</small>", muted) if muted else "",
            format_html("<br>{}", progress) if progress else "",
            format_html(
                "<br><small>{} {}</small>", _("expected to end"), formats.relative_time(end)
            )
            if end
            else "",
            format_html('<br><small class="chroniker-detail">{}</small>', self.display.detail)
            if self.display.detail
            else "",
        )

    def last_run_html(self) -> SafeString | str:
        """The status of the last run, when it ended, and how long it took."""
        state = last_ended(self.states)
        if state is None:
            return formats.EMPTY
        badge = formats.run_status(state.last_status)
        if state.last_run_id and self.run_url:
            href = self.run_url.replace("/0/change/", f"/{state.last_run_id}/change/")
            badge = format_html('<a href="{}">{}</a>', href, badge)
        host = format_html(" <small>{}</small>", state.host) if state.host else ""
        when = formats.relative_time(state.last_ended_at) if state.last_ended_at else ""
        return format_html(
            "{}{}<br><small>{}{}{}</small>",
            badge,
            host,
            when,
            ", " if when else "",
            formats.duration(state.last_duration_seconds),
        )

    def next_run_html(self) -> SafeString | str:
        """The next run or retry, in the job's time zone."""
        if not self.job.enabled:
            return formats.EMPTY
        return formats.time_html(next_run_at(self.states), self.job.timezone)

    def outcomes_html(self) -> SafeString:
        """How the last runs ended."""
        return outcome_strip(self.outcomes)

    def fragments(self) -> dict[str, str]:
        """The cells that change, by the names that they have in the page."""
        key = f"job-{self.job.pk}"
        return {
            f"{key}-state": self.state_html(),
            f"{key}-outcomes": self.outcomes_html(),
            f"{key}-last": self.last_run_html(),
            f"{key}-next": self.next_run_html(),
        }


def prepare_rows(
    jobs: Iterable[Job], site: SiteStatus | None, now: datetime, run_url: str
) -> list[JobRow]:
    """Compute the rows, and remember them on the jobs; one query.

    The jobs have their states prefetched, and ``newest_run_id`` annotated as ``outcomes_from``.
    """
    listed = list(jobs)
    outcomes = recent_outcomes({job.pk: _outcomes_from(job) for job in listed})
    rows = []
    for job in listed:
        row = _new_row(job, site, now)
        row.outcomes, row.run_url = outcomes[job.pk], run_url
        setattr(job, _ROW, row)
        rows.append(row)
    return rows


def row_of(job: Job) -> JobRow:
    """The prepared row of a job, or a new one without outcomes."""
    row = getattr(job, _ROW, None)
    return row if isinstance(row, JobRow) else _new_row(job, None, utc_now())


def total_progress(states: Iterable[JobState]) -> SafeString | str:
    """The progress of all active runs together; empty if none reported progress."""
    reported = [s for s in states if s.lease_token is not None and s.parts_done is not None]
    if not reported:
        return ""
    return formats.progress(
        sum(state.parts_done or 0 for state in reported),
        sum(state.parts_total or 0 for state in reported),
    )


def _new_row(job: Job, site: SiteStatus | None, now: datetime) -> JobRow:
    states = current_states(job)
    return JobRow(job, states, describe_job(job, states, now, site))


def _outcomes_from(job: Job) -> int:
    number: int = job.outcomes_from  # type: ignore[attr-defined]  # annotated
    return number
