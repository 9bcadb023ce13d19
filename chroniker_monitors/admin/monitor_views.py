"""More views of monitors: choose a kind, "Test now", fields of a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from chroniker.admin import formats
from chroniker.exceptions import OpenTransaction
from chroniker.models import Job
from chroniker_monitors.checking.measurement import Measurement
from chroniker_monitors.checking.recorder import evaluate_now
from chroniker_monitors.checking.sandbox import run_in_sandbox
from chroniker_monitors.exceptions import SandboxBusy, UnknownKind
from chroniker_monitors.models import Monitor
from chroniker_monitors.probes import probe_kinds
from chroniker_monitors.series import SeriesValue, sort_worst_first

from . import pickers
from .backtests import BacktestResult, backtest_form
from .forms import form_for
from .monitor_display import severity_badge
from .monitor_form import MonitorFormAdmin
from .values import format_value

MAX_GROUPS = 20
"""The groups that the result of "Test now" lists."""
KINDS_TEMPLATE = "chroniker_monitors/admin/kinds.html"


@dataclass(frozen=True, slots=True)
class ProbeTest:
    """The result of "Test now": a measurement, or why there is none."""

    measurement: Measurement | None = None
    series: list[SeriesValue] = field(default_factory=list)
    """The groups that were measured, worst first."""
    error: str = ""

    @property
    def groups(self) -> list[tuple[str, str, str]]:
        """The name, the value and the severity of the worst groups."""
        unit = self.measurement.unit if self.measurement else ""
        return [
            (each.name, format_value(each.value, unit), severity_badge(each.severity))
            for each in self.series[:MAX_GROUPS]
        ]

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
        model = request.GET.get("model", "")
        return JsonResponse(
            {"fields": pickers.field_names(model), "groups": pickers.group_names(model)}
        )

    def choose_kind(
        self, request: HttpRequest, *, unknown: str = "", unavailable: str = ""
    ) -> HttpResponse:
        """Show the kinds that the user may define.

        ``unknown`` is a requested invalid kind, ``unavailable`` why this site has no monitors of
        the requested one.
        """
        admin = self.model_admin
        kinds = [
            {"kind": kind, "label": probe.label or kind, "description": probe.description}
            for kind, probe in probe_kinds().items()
            if admin.may_define(request, kind) and not probe.unavailable()
        ]
        context = {
            **admin.admin_site.each_context(request),
            "title": _("Add monitor"),
            "subtitle": None,
            "opts": admin.opts,
            "kinds": sorted(kinds, key=lambda kind: kind["label"].casefold()),
            "unknown": unknown,
            "unavailable": unavailable,
            "media": admin.media,
        }
        return TemplateResponse(
            request, KINDS_TEMPLATE, context, status=404 if unknown or unavailable else 200
        )

    def get_editable(self, request: HttpRequest, object_id: str | None) -> Job | None:
        """Return a stored monitor that the user may change; None on the add page."""
        if object_id is None:
            return None
        monitor = self.model_admin.get_object(request, object_id)
        if monitor is None:
            raise Http404
        if not self.model_admin.has_change_permission(request, monitor):
            raise PermissionDenied
        return monitor

    def backtest(self, request: HttpRequest, object_id: str | None) -> BacktestResult | None:
        """Test the thresholds of the unsaved form on the stored samples; None for errors."""
        monitor = self.get_editable(request, object_id)
        if monitor is None:
            return BacktestResult(error=_("There are no samples yet. Save the monitor first."))
        try:
            form_class = form_for(monitor.probe.kind, test_only=True)
        except UnknownKind as error:
            return BacktestResult(error=str(error))
        if form_class.passive:
            return BacktestResult(
                error=_("A heartbeat has a period and a grace instead of thresholds.")
            )
        form = form_class(request.POST, instance=monitor)
        return None if form.errors else backtest_form(monitor, form.rules)

    def test(self, request: HttpRequest, object_id: str | None) -> ProbeTest | None:
        """Measure with the unsaved form; None if the form has errors."""
        admin = self.model_admin
        monitor = self.get_editable(request, object_id)
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
        thresholds = form.thresholds
        # A new monitor has no history, and the message says so.
        measurement = evaluate_now(monitor or Monitor(), measurement, thresholds, utc_now())
        return ProbeTest(measurement, list(sort_worst_first(measurement.series or (), thresholds)))
