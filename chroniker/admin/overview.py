"""The overview: is anything wrong, what runs, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from chroniker.enums import Severity
from chroniker.models import Incident, JobState

from . import formats
from .day_strip import DayStrip, draw_day
from .display_state import DisplayState, describe_job
from .estimates import estimated_end
from .site_status import HostStatus, SiteStatus, load_site_status

MAX_ROWS = 50
"""Rows in each section."""
SOON = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class OverviewRow:
    """A job on one placement."""

    state: JobState
    display: DisplayState
    badge: str
    progress: str
    end: str
    next: str
    started: str


@dataclass(slots=True)
class Overview:
    """What the page shows. A section that the user may not see is None."""

    incidents: Sequence[Incident] | None = None
    failing: list[OverviewRow] = field(default_factory=list)
    late: list[OverviewRow] = field(default_factory=list)
    blocked: list[OverviewRow] = field(default_factory=list)
    running: list[OverviewRow] = field(default_factory=list)
    soon: list[OverviewRow] = field(default_factory=list)
    hosts: Sequence[HostStatus] | None = None
    day: DayStrip | None = None
    more_soon: bool = False
    has_jobs: bool = True

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong, as far as the user may see."""
        return not (self.incidents or self.failing or self.late or self.blocked)


def load_overview(request: HttpRequest, now: datetime) -> Overview:
    """Read the page's rows with a constant number of queries."""
    site = load_site_status(request)
    page = Overview()
    shown = _states().filter(
        Q(lease_token__isnull=False)
        | Q(consecutive_failures__gt=0, job__enabled=True)
        | Q(blocked_reason__gt="")
        | Q(due_at__lte=now)
    )
    for state in shown.order_by("-consecutive_failures", "due_at", "pk")[: 4 * MAX_ROWS]:
        row = _row(state, now, site)
        if state.lease_token is not None:
            page.running.append(row)
        if row.display.name == "failing":
            page.failing.append(row)
        elif row.display.name == "late":
            page.late.append(row)
        elif row.display.name in ("blocked", "invalid"):
            page.blocked.append(row)
    coming = _states().filter(due_at__lte=now + SOON, job__enabled=True).order_by("due_at", "pk")
    rows = list(coming[: MAX_ROWS + 1])
    page.more_soon = len(rows) > MAX_ROWS
    page.soon = [_row(state, now, site) for state in rows[:MAX_ROWS]]
    page.has_jobs = bool(rows) or bool(page.running) or JobState.objects.exists()
    if _may(request, "view_incident"):
        open_ones = Incident.objects.open().select_related("job", "acknowledged_by")
        page.incidents = sorted(
            open_ones.order_by("-opened_at")[:MAX_ROWS],
            key=lambda one: (one.acknowledged_at is not None, -_rank(one)),
        )
    if _may(request, "view_host"):
        page.hosts = site.hosts
    if _may(request, "view_run"):
        page.day = draw_day(now)
    return page


def incident_rows(incidents: Sequence[Incident]) -> list[dict[str, object]]:
    """Incidents as the template shows them."""
    return [
        {
            "incident": one,
            "badge": formats.severity_badge(one.severity, one.get_severity_display()),
            "opened": formats.relative_time(one.opened_at),
        }
        for one in incidents
    ]


def host_rows(hosts: Sequence[HostStatus], site: SiteStatus) -> list[dict[str, object]]:
    """Hosts as the template shows them."""
    rows: list[dict[str, object]] = []
    for host in hosts:
        if host.paused:
            badge = formats.badge("disabled", _("paused"))
        elif host.ticks(site.now):
            badge = formats.badge("succeeded", _("ticking"))
        else:
            badge = formats.badge("lost", _("silent"))
        last = formats.relative_time(host.last_tick_at) if host.last_tick_at else _("never")
        rows.append({"host": host, "badge": badge, "last": last})
    return rows


def _states() -> QuerySet[JobState]:
    """The states of today's placements, with their jobs, and without the histograms."""
    states = JobState.objects.current().select_related("job")
    return states.defer("duration_buckets", "start_lag_buckets")


def _may(request: HttpRequest, permission: str) -> bool:
    return request.user.has_perm(f"chroniker.{permission}")


def _rank(incident: Incident) -> int:
    return Severity(incident.severity).rank if incident.severity in Severity.values else -1


def _row(state: JobState, now: datetime, site: SiteStatus) -> OverviewRow:
    display = describe_job(state.job, [state], now, site)
    end = estimated_end(state.job, state)
    return OverviewRow(
        state=state,
        display=display,
        badge=formats.badge(display.name, display.label),
        progress=formats.progress(state.parts_done, state.parts_total)
        if state.lease_token is not None
        else formats.EMPTY,
        end=formats.relative_time(end) if end else "",
        next=formats.relative_time(state.due_at) if state.due_at else formats.EMPTY,
        started=formats.relative_time(state.last_started_at) if state.last_started_at else "",
    )
