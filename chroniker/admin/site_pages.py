"""The pages about all jobs: the overview and the calendar."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from chroniker.models import Job

from . import formats
from .base import BaseAdmin
from .job_calendar import SPAN_LABELS, load_calendar
from .live import live_response
from .overview import host_rows, incident_rows, load_overview
from .site_status import load_site_status


@dataclass(frozen=True, slots=True)
class SitePages:
    """The pages, which the admin of jobs serves."""

    model_admin: BaseAdmin[Job]

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path("overview/", wrap(require_safe(self.overview)), name=name("overview")),
            path("overview/live/", wrap(require_safe(self.live)), name=name("overview_live")),
            path("calendar/", wrap(require_safe(self.calendar)), name=name("calendar")),
        ]

    def overview(self, request: HttpRequest) -> HttpResponse:
        """HTML: whether anything is wrong."""
        admin = self.model_admin
        context = self._overview_context(request)
        context["live_url"] = admin.admin_url(admin.view_name("overview_live"))
        return self._render(request, "overview.html", _("Overview"), context)

    def live(self, request: HttpRequest) -> HttpResponse:
        """JSON: the changing part of the overview."""
        context = self._overview_context(request)
        html = formats.render("overview_parts.html", context, request)
        return live_response(request, {"overview": html}, active=bool(context["active"]))

    def calendar(self, request: HttpRequest) -> HttpResponse:
        """HTML: when jobs start, and when many at once."""
        self._require_view(request)
        span = request.GET.get("span", "day")
        if span not in SPAN_LABELS:
            span = "day"
        may_view_windows = self.model_admin.may_view(request, "maintenance")
        context: dict[str, object] = {
            "calendar": load_calendar(span, utc_now()),
            "spans": SPAN_LABELS.items(),
            "span": span,
            "may_view_windows": may_view_windows,
        }
        return self._render(request, "calendar.html", _("Calendar"), context)

    def _overview_context(self, request: HttpRequest) -> dict[str, object]:
        self._require_view(request)
        page = load_overview(self.model_admin, request, utc_now())
        site = load_site_status(request)
        return {
            "page": page,
            "incidents": incident_rows(page.incidents or ()),
            "hosts": None if page.hosts is None else host_rows(page.hosts, site),
            "may_add": self.model_admin.has_add_permission(request),
            "may_view_runs": self.model_admin.may_view(request, "run"),
            "active": bool(page.running.rows),
        }

    def _require_view(self, request: HttpRequest) -> None:
        if not self.model_admin.has_view_or_change_permission(request):
            raise PermissionDenied

    def _render(
        self, request: HttpRequest, template: str, title: str, context: dict[str, object]
    ) -> HttpResponse:
        admin = self.model_admin
        request.current_app = admin.admin_site.name
        base = {**admin.admin_site.each_context(request), "title": title, "opts": admin.opts}
        return TemplateResponse(request, f"chroniker/admin/{template}", {**base, **context})
