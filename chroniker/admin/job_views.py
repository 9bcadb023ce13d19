"""More views of jobs: run, stop, and the preview of a schedule."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST, require_safe

from .job_actions import run_jobs, stop_jobs
from .job_form import JobFormAdmin, preview_schedule


@dataclass(frozen=True, slots=True)
class JobViews:
    """The views of one admin of jobs."""

    model_admin: JobFormAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap = admin.admin_site.admin_view
        return [
            path("<int:pk>/run/", wrap(require_POST(self.run)), name=admin.view_name("run")),
            path("<int:pk>/stop/", wrap(require_POST(self.stop)), name=admin.view_name("stop")),
            path("preview/", wrap(require_safe(self.preview)), name=admin.view_name("preview")),
        ]

    def run(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a run of one job."""
        job = self.model_admin.get_visible(request, pk)
        if not self.model_admin.has_run_permission(request):
            raise PermissionDenied
        run_jobs(self.model_admin, request, [job])
        return self._redirect_to_job(pk)

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a stop of one job, on each host where it is running."""
        job = self.model_admin.get_visible(request, pk)
        if not self.model_admin.has_stop_permission(request):
            raise PermissionDenied
        stop_jobs(self.model_admin, request, [job])
        return self._redirect_to_job(pk)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """JSON: what the schedule in the query string does. Nothing else is read."""
        admin = self.model_admin
        if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
            raise PermissionDenied
        schedule, zone, name = (request.GET.get(key, "") for key in ("schedule", "zone", "name"))
        return JsonResponse(preview_schedule(schedule, zone, name))

    def _redirect_to_job(self, pk: int) -> HttpResponse:
        admin = self.model_admin
        return HttpResponseRedirect(admin.admin_url(admin.view_name("change"), pk))
