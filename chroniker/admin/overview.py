"""The overview: is anything wrong, what runs, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib.humanize.templatetags.humanize import intcomma
from django.db.models import (
    Case,
    CharField,
    Count,
    F,
    IntegerField,
    Q,
    QuerySet,
    Value,
    When,
    Window,
)
from django.db.models.functions import RowNumber
from django.http import HttpRequest
from django.utils.translation import gettext as _

from chroniker.conf import conf
from chroniker.enums import Severity
from chroniker.models import Incident, Job, JobState

from . import formats
from .base import BaseAdmin
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
class OverviewSection:
    """The first rows of a section."""

    rows: list[OverviewRow] = field(default_factory=list)
    total: int = 0
    """How many there are, listed or not."""

    @property
    def number(self) -> str:
        """How many rows are listed, and of how many."""
        return number_of(len(self.rows), self.total)


@dataclass(slots=True)
class Overview:
    """What the page shows. A section that the user may not see is None."""

    incidents: Sequence[Incident] | None = None
    open_incidents: int = 0
    """How many incidents are open, listed or not."""
    failing: OverviewSection = field(default_factory=OverviewSection)
    late: OverviewSection = field(default_factory=OverviewSection)
    blocked: OverviewSection = field(default_factory=OverviewSection)
    running: OverviewSection = field(default_factory=OverviewSection)
    soon: list[OverviewRow] = field(default_factory=list)
    hosts: Sequence[HostStatus] | None = None
    day: DayStrip | None = None
    more_soon: bool = False
    has_jobs: bool = True

    @property
    def fine(self) -> bool:
        """Whether nothing is wrong, as far as the user may see."""
        jobs = self.failing.total + self.late.total + self.blocked.total
        return not (self.incidents or jobs)


def load_overview(admin: BaseAdmin[Job], request: HttpRequest, now: datetime) -> Overview:
    """Read the page's rows with a constant number of queries."""
    site = load_site_status(request)
    page = Overview()
    _fill_sections(page, now, site)
    coming = _states().filter(due_at__lte=now + SOON, job__enabled=True).order_by("due_at", "pk")
    rows = list(coming[: MAX_ROWS + 1])
    page.more_soon = len(rows) > MAX_ROWS
    page.soon = [_row(state, now, site) for state in rows[:MAX_ROWS]]
    page.has_jobs = bool(rows) or bool(page.running.rows) or JobState.objects.exists()
    if admin.may_view(request, "incident"):
        page.incidents = incidents = _worst_incidents()
        page.open_incidents = incidents[0].open_ones if incidents else 0  # type: ignore[attr-defined]
    if admin.may_view(request, "host"):
        page.hosts = site.hosts
    if admin.may_view(request, "run"):
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


def _worst_incidents() -> list[Incident]:
    """The open incidents that matter most, each with the number of all: one query."""
    ranks = [When(severity=one, then=Value(one.rank)) for one in Severity]
    incidents = Incident.objects.open().select_related("job", "acknowledged_by").defer("snapshot")
    return list(
        incidents.annotate(
            open_ones=Window(Count("pk")),
            rank=Case(*ranks, default=Value(-1), output_field=IntegerField()),
        ).order_by(F("acknowledged_at").asc(nulls_first=True), "-rank", "-opened_at", "-pk")[
            :MAX_ROWS
        ]
    )


_SECTIONS = {
    "failing": ("failing",),
    "failing and running": ("failing", "running"),
    "running": ("running",),
    "blocked": ("blocked",),
    "late": ("late",),
}
"""The sections in which a state of each group is listed."""


def _fill_sections(page: Overview, now: datetime, site: SiteStatus) -> None:
    """List the first states of each group and count all of them: one query."""
    totals: dict[str, int] = {}
    for state in _grouped_states(now):
        group: str = state.group  # type: ignore[attr-defined]  # annotated
        totals[group] = state.in_group  # type: ignore[attr-defined]  # annotated
        row = _row(state, now, site)
        for name in _SECTIONS[group]:
            section: OverviewSection = getattr(page, name)
            if len(section.rows) < MAX_ROWS:
                section.rows.append(row)
    for group, total in totals.items():
        for name in _SECTIONS[group]:
            getattr(page, name).total += total


def _grouped_states(now: datetime) -> QuerySet[JobState]:
    """At most ``MAX_ROWS`` states of each group. They agree with ``describe_job``."""
    running = Q(lease_token__isnull=False)
    starting = Q(run_requested_at__isnull=False) | Q(restart_at__isnull=False)
    failing = Q(consecutive_failures__gt=0)
    late = Q(due_at__lt=now - timedelta(seconds=conf.OVERDUE_SECONDS))
    group = Case(
        When(failing & running, then=Value("failing and running")),
        When(failing & (starting | Q(job__enabled=True)), then=Value("failing")),
        When(running, then=Value("running")),
        When(starting | Q(job__enabled=False), then=Value("")),
        When(Q(blocked_reason__gt=""), then=Value("blocked")),
        When(late, then=Value("late")),
        default=Value(""),
        output_field=CharField(),
    )
    order = (F("consecutive_failures").desc(), F("due_at").asc(nulls_last=True), F("pk").asc())
    return (
        _states()
        .filter(running | failing | late | Q(blocked_reason__gt=""))
        .annotate(group=group)
        .exclude(group="")
        .annotate(
            position=Window(RowNumber(), partition_by="group", order_by=order),
            in_group=Window(Count("pk"), partition_by="group"),
        )
        .filter(position__lte=MAX_ROWS)
        .order_by(*order)
    )


def number_of(listed: int, total: int) -> str:
    """``12``, or ``50 of 233`` if not all are listed."""
    if listed == total:
        return str(intcomma(total))
    return _("%(listed)d of %(total)s") % {"listed": listed, "total": intcomma(total)}


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
