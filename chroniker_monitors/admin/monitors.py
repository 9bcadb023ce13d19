"""The pages of monitors: the list, and the form with charts above it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.admin.helpers import AdminForm
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.models import Host, Job
from chroniker_monitors.enums import HEARTBEAT
from chroniker_monitors.models import MonitorState
from chroniker_monitors.probes import probe_kinds

from . import filters, monitor_columns, pickers
from .history import SPANS
from .monitor_display import kind_label
from .monitor_form import MonitorFormAdmin
from .monitor_panel import last_ping, placement_panels
from .monitor_views import MonitorViews


class MonitorAdmin(MonitorFormAdmin):
    """A monitor is a job. It can be run, stopped, enabled, disabled and muted like any job."""

    # Any: the type checker assumes that tuples keep the lengths that they have in JobAdmin.
    list_display: Any = (
        monitor_columns.title, monitor_columns.severity, monitor_columns.value,
        monitor_columns.bounds, monitor_columns.sparkline, monitor_columns.since,
        monitor_columns.next_check,
    )  # fmt: skip
    list_filter: ClassVar[Any] = (filters.SeverityFilter, filters.KindFilter, "enabled")
    search_fields: ClassVar[Any] = ("name", "description", "probe__kind")
    search_help_text = gettext_lazy("Searches name, description and kind.")
    ordering = (monitor_columns.order_by_severity(), "name")
    inlines: ClassVar[Any] = ()
    has_page = False
    empty_text: Any = gettext_lazy(
        "No monitors yet. Add one, or let “manage.py add_starter_monitors” define the ones that "
        "most sites want."
    )
    change_form_template = "chroniker_monitors/admin/monitor.html"

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["chroniker_monitors/admin.css"]}
        js = ("chroniker_monitors/test-now.js", "chroniker_monitors/field-picker.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """With probes and states, in a constant number of queries."""
        active = Q(host="") | Exists(Host.objects.active().filter(name=OuterRef("host")))
        states = MonitorState.objects.filter(active).defer("last_ping_body").order_by("host")
        return (
            super()
            .get_queryset(request)
            .select_related("probe")
            .prefetch_related(Prefetch("monitor_states", states))
        )

    def get_urls(self) -> list[URLPattern]:
        """Add the fields of a model."""
        return [*MonitorViews(self).urls(), *super().get_urls()]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, object] | None = None,
    ) -> HttpResponse:
        """Choose a kind before adding; "Test now" shows the form again with the measurement."""
        if object_id is None:
            if not self.has_add_permission(request):
                raise PermissionDenied
            kind = request.GET.get("kind", "")
            if kind not in probe_kinds():
                return MonitorViews(self).choose_kind(request, unknown=kind)
            if not self.may_define(request, kind):
                raise PermissionDenied
            if reason := probe_kinds()[kind].unavailable():
                return MonitorViews(self).choose_kind(request, unavailable=reason)
        if request.method == "POST" and "_backtest" in request.POST:
            backtest = MonitorViews(self).backtest(request, object_id)
            extra_context = {
                **(extra_context or {}), "backtest": backtest, "backtest_requested": True,
            }  # fmt: skip
        if request.method == "POST" and "_test" in request.POST:
            tested = MonitorViews(self).test(request, object_id)
            extra_context = {**(extra_context or {}), "tested": tested, "test_requested": True}
        return super().changeform_view(request, object_id, form_url, extra_context)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Job | None = None,
    ) -> HttpResponse:
        """Add "Test now" and the fields of the chosen model to the form."""
        kind = self.get_kind(request, obj)
        may_save = self.has_change_permission(request, obj) if change else True
        may_test = may_save and kind != HEARTBEAT
        context.update(may_test=may_test, may_backtest=may_test and change)
        admin_form = context["adminform"]
        assert isinstance(admin_form, AdminForm)
        form = admin_form.form
        if pickers.link_fields(form.fields, self.admin_url(self.view_name("fields"))):
            model = form[pickers.MODEL].value() or ""
            context.update(
                picks_fields=True,
                field_names=pickers.field_names(model),
                group_names=pickers.group_names(model),
            )
            pickers.show_names(form)
        if add:
            context["title"] = _("Add monitor: %(kind)s") % {"kind": kind_label(kind)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def panel_context(self, request: HttpRequest, job: Job) -> dict[str, object]:
        """Add the charts of a stored monitor."""
        span = SPANS.get(request.GET.get("span", ""), SPANS["day"])
        return {
            **super().panel_context(request, job),
            "monitor": job,
            "monitor_panels": placement_panels(job, span, utc_now()),
            "spans": SPANS.values(),
            "span": span,
            "learns": job.probe.thresholds.learns,
            "ping": last_ping(job) if job.probe.passive else None,
        }
