"""The page of a job: what it is doing, and why. The form to edit it is a page of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Exists, F, OuterRef, Q
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.timezone import now as utc_now
from django.views.decorators.http import require_safe

from chroniker.alerting.links import runbook_link
from chroniker.engine.chains import build_chain
from chroniker.models import Incident, Job, JobDependency, Run

from . import formats, job_panel
from .dependency_graph import draw_dependencies
from .display_state import current_states, describe_job, describe_schedule
from .job_charts import draw_durations
from .job_form import JobFormAdmin, preview_schedule
from .job_kinds import kind_annotations, own_form
from .job_list import update_rows
from .job_rows import ACTIVE_STATES
from .job_views import JobViews
from .live import live_response
from .outcomes import describe_outcomes
from .site_status import load_site_status

CHARTED = 50
"""Runs in the chart."""
LISTED = 10
"""Runs in the table."""
_MAX_INCIDENTS = 10


@dataclass(frozen=True, slots=True)
class JobPageViews:
    """The pages to read of one admin of jobs."""

    model_admin: JobFormAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path("live/", wrap(require_safe(self.live_list)), name=name("live")),
            path("<int:pk>/", wrap(require_safe(self.page)), name=name("page")),
            path("<int:pk>/live/", wrap(require_safe(self.live_page)), name=name("page_live")),
        ]

    def live_list(self, request: HttpRequest) -> HttpResponse:
        """JSON: the visible rows of the list."""
        return update_rows(self.model_admin, request)

    def page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """HTML: the whole page."""
        admin = self.model_admin
        edges = JobDependency.objects.filter(
            Q(upstream=OuterRef("pk")) | Q(downstream=OuterRef("pk"))
        )
        declared_in = F("declaration__source")
        job = admin.get_visible(
            request, pk, has_edges=Exists(edges), declared_in=declared_in, **kind_annotations()
        )
        schedule = preview_schedule(job.schedule, job.timezone, job.name)
        context = {
            **admin.admin_site.each_context(request),
            **self._changing(request, job),
            "title": job.name,
            "opts": admin.opts,
            "job": job,
            "sentence": describe_schedule(job),
            "schedule": schedule,
            "graph": self._graph(job),
            "may_view_declaration": request.user.has_perm("chroniker.view_declaration"),
            "may_run": admin.has_run_permission(request),
            "may_stop": admin.has_stop_permission(request),
            "may_edit": admin.has_change_permission(request, job),
            "own_form": own_form(admin, request, job),
            "may_copy": admin.has_add_permission(request) and admin.may_edit(request, job),
            "may_choose_args": JobViews(admin).may_choose_args(request, job),
            "task_args": json.dumps(job.task_args, ensure_ascii=False),
            "task_kwargs": json.dumps(job.task_kwargs, ensure_ascii=False),
            "runbook": runbook_link(job),
            "team": getattr(job, "team", ""),
            "live_url": admin.admin_url(admin.view_name("page_live"), pk),
            **{f"{view}_url": admin.admin_url(admin.view_name(view), pk)
               for view in ("run", "stop", "change", "history")},
        }  # fmt: skip
        request.current_app = admin.admin_site.name
        return TemplateResponse(request, "chroniker/admin/job_page.html", context)

    def live_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: the parts that change."""
        job = self.model_admin.get_visible(request, pk)
        context = self._changing(request, job)
        names = ["state", "incidents", *(["charts", "runs"] if context["may_view_runs"] else [])]
        fragments = {
            name: formats.render(f"job_{name}.html", {**context, "job": job}, request)
            for name in names
        }
        running = bool(context["running"])
        return live_response(
            request, fragments, active=bool(context["active"]), flags={"running": running}
        )

    def _changing(self, request: HttpRequest, job: Job) -> dict[str, object]:
        now = utc_now()
        states = current_states(job)
        site = load_site_status(request)
        display = describe_job(job, states, now, site)
        may_view_runs = self.model_admin.may_view(request, "run")
        runs = _newest_runs(job) if may_view_runs else []
        may_view_incidents = self.model_admin.may_view(request, "incident")
        running = any(state.lease_token is not None for state in states)
        return {
            "badge": formats.badge(display.name, display.label),
            "display": display,
            "muted": getattr(job, "is_muted", False),
            "states": job_panel.state_rows(job, states, now, site),
            "running": running,
            "active": running or display.name in ACTIVE_STATES,
            "may_view_runs": may_view_runs,
            "chart": draw_durations(job, runs),
            "outcomes": describe_outcomes(run.status for run in runs),
            "charted": len(runs),
            "runs": job_panel.run_rows(runs[:LISTED]),
            "incidents": _open_incidents(job) if may_view_incidents else [],
        }

    def _graph(self, job: Job) -> object:
        has_edges: bool = job.has_edges  # type: ignore[attr-defined]  # annotated
        return draw_dependencies(build_chain(job), job.pk) if has_edges else None


def _newest_runs(job: Job) -> Sequence[Run]:
    return list(Run.objects.filter(job=job).order_by("-id").defer("error", "args")[:CHARTED])


def _open_incidents(job: Job) -> list[dict[str, object]]:
    incidents = Incident.objects.open().filter(job=job).order_by("-id")[:_MAX_INCIDENTS]
    return [
        {"incident": incident, "opened": formats.relative_time(incident.opened_at)}
        for incident in incidents
    ]
