"""More views of monitors: choose a kind, "Test now", fields of a model."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from chroniker.admin import formats
from chroniker.exceptions import OpenTransaction
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.sandbox import run_in_sandbox
from chroniker_monitors.exceptions import SandboxBusy, UnknownKind
from chroniker_monitors.models import Monitor
from chroniker_monitors.probes import probe_kinds

from . import pickers
from .forms import form_for
from .monitor_display import severity_badge
from .monitor_form import MonitorFormAdmin
from .values import format_value

KINDS_TEMPLATE = "chroniker_monitors/admin/kinds.html"


@dataclass(frozen=True, slots=True)
class ProbeTest:
    """The result of "Test now": a measurement, or why there is none."""

    measurement: Measurement | None = None
    error: str = ""

    @property
    def badge(self) -> str:
        """The severity as a badge."""
        return severity_badge(self.measurement.severity) if self.measurement else ""

    @property
    def value(self) -> str:
        """The value with its unit."""
        result = self.measurement
        return format_value(result.value, result.unit) if result else formats.EMPTY

    @property
    def latency(self) -> str:
        """How long measuring took."""
        return formats.duration(self.measurement.latency_seconds if self.measurement else None)


@dataclass(frozen=True, slots=True)
class MonitorViews:
    """The views of one admin of monitors."""

    model_admin: MonitorFormAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        view = admin.admin_site.admin_view(require_safe(self.model_fields))
        return [path("fields/", view, name=admin.view_name("fields"))]

    def model_fields(self, request: HttpRequest) -> HttpResponse:
        """JSON: the fields of the model in the query that monitors may use."""
        admin = self.model_admin
        if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
            raise PermissionDenied
        return JsonResponse({"fields": pickers.field_names(request.GET.get("model", ""))})

    def choose_kind(self, request: HttpRequest, *, unknown: str) -> HttpResponse:
        """Show the kinds that the user may define. ``unknown`` is a requested invalid kind."""
        admin = self.model_admin
        kinds = [
            {"kind": kind, "label": probe.label or kind, "description": probe.description}
            for kind, probe in probe_kinds().items()
            if admin.may_define(request, kind)
        ]
        context = {
            **admin.admin_site.each_context(request),
            "title": _("Add monitor"),
            "subtitle": None,
            "opts": admin.opts,
            "kinds": sorted(kinds, key=lambda kind: kind["label"].casefold()),
            "unknown": unknown,
            "media": admin.media,
        }
        return TemplateResponse(request, KINDS_TEMPLATE, context, status=404 if unknown else 200)

    def test(self, request: HttpRequest, object_id: str | None) -> ProbeTest | None:
        """Measure with the unsaved form; None if the form has errors."""
        admin = self.model_admin
        monitor = None
        if object_id is not None:
            monitor = admin.get_object(request, object_id)
            if monitor is None:
                raise Http404
            if not admin.has_change_permission(request, monitor):
                raise PermissionDenied
        kind = admin.get_kind(request, monitor)
        try:
            form_class = form_for(kind, test_only=True)
        except UnknownKind as error:
            return ProbeTest(error=str(error))
        if form_class.passive:
            return ProbeTest(error=_("A heartbeat is measured by pings. Ping its address to test."))
        form = form_class(request.POST, instance=monitor or Monitor())
        if form.errors:
            return None
        try:
            measurement = run_in_sandbox(
                kind,
                form.probe_params,
                form.thresholds,
                timeout=form.cleaned_data["probe_timeout"],
                unit=form.cleaned_data["probe_unit"],
            )
        except (SandboxBusy, OpenTransaction) as error:
            return ProbeTest(error=str(error))
        return ProbeTest(measurement)
