"""Monitors: the board, the form of each kind, and the page of one monitor with its charts."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, IntegerField, Max, Prefetch, QuerySet, Subquery, Value, When
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from chroniker.admin import JobAdmin, formats
from chroniker.masking import MASK
from chroniker.models import Job
from chroniker_monitors.checking.sandbox import run_in_sandbox
from chroniker_monitors.enums import HEARTBEAT, SQL, Severity
from chroniker_monitors.exceptions import SandboxBusy, UnknownKind
from chroniker_monitors.models import Monitor, MonitorState, Probe
from chroniker_monitors.probes import fields, kind_class, probe_kinds
from chroniker_monitors.thresholds import SEVERITY_ORDER, rank

from . import charts, filters, pickers
from .forms import PARAM_PREFIX, MonitorForm, form_for
from .history import SPANS, read_history
from .monitor_display import MonitorDisplay, describe_monitor, placement_states
from .values import format_value

HOSTS_SHOWN = 6
"""Charts on the page of a monitor that runs on every host."""
_SEVERITY_RANKS = [
    When(severity=severity, then=Value(rank(severity))) for severity in SEVERITY_ORDER
]


def _order_by_severity() -> Any:
    worst = (
        filters.current_states()
        .order_by()
        .values("job")
        .annotate(worst=Max(Case(*_SEVERITY_RANKS, output_field=IntegerField())))
        .values("worst")
    )
    return Subquery(worst).desc(nulls_last=True)


@admin.register(Monitor)
class MonitorAdmin(JobAdmin):
    """A monitor is a job, and is run, stopped, enabled and disabled like one."""

    list_display: Any = (
        "title", "severity", "value", "bounds", "sparkline", "since", "next_check",
    )  # fmt: skip
    list_display_links = ("title",)
    list_filter: ClassVar[Any] = (filters.SeverityFilter, filters.KindFilter, "enabled")
    search_fields: ClassVar[Any] = ("name", "description", "probe__kind")
    search_help_text = gettext_lazy("Words of the name, description or kind.")
    ordering = (_order_by_severity(), "name")
    inlines: ClassVar[Any] = ()
    change_form_template = "chroniker_monitors/admin/monitor.html"
    kinds_template = "chroniker_monitors/admin/kinds.html"

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker_monitors/admin.css"]}
        js = ("chroniker_monitors/test-now.js", "chroniker_monitors/field-picker.js")

    # --- who may what ---

    def may_define(self, request: HttpRequest, kind: str) -> bool:
        """May define monitors of a kind, which may ask for a permission of its own."""
        wanted = "chroniker_monitors.use_sql_probe" if kind == SQL else ""
        with suppress(UnknownKind):  # which can be looked at, run in vain, and deleted
            wanted = kind_class(kind).permission or wanted
        return not wanted or request.user.has_perm(wanted)

    def _may_touch(self, request: HttpRequest, obj: Job | None) -> bool:
        return super()._may_touch(request, obj) and (
            obj is None or not hasattr(obj, "probe") or self.may_define(request, obj.probe.kind)
        )

    # --- the board ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """With probes and states, in a constant number of queries."""
        states = MonitorState.objects.defer("last_ping_body").order_by("host")
        return (
            super()
            .get_queryset(request)
            .select_related("probe")
            .prefetch_related(Prefetch("monitor_states", states))
        )

    @admin.display(description=gettext_lazy("monitor"), ordering="name")
    def title(self, job: Job) -> str:
        """The name, and the kind."""
        return _render("title.html", {"name": job.name, "kind": _label(_probe(job).kind)})

    @admin.display(description=gettext_lazy("state"), ordering=_order_by_severity())
    def severity(self, job: Job) -> str:
        """How it stands, and what it last said."""
        return _render("severity.html", {"display": _describe(job)})

    @admin.display(description=gettext_lazy("value"))
    def value(self, job: Job) -> str:
        """The last one, with its unit."""
        state = _describe(job).state
        if state is None:
            return formats.EMPTY
        return format_value(state.value, _unit(job, state))

    @admin.display(description=gettext_lazy("thresholds"))
    def bounds(self, job: Job) -> str:
        """What the value is held against."""
        return _render("bounds.html", {"bounds": _bounds(job)})

    @admin.display(description=gettext_lazy("lately"))
    def sparkline(self, job: Job) -> str:
        """The newest values."""
        state = _describe(job).state
        spark = charts.spark(state.recent_values) if state is not None else None
        if spark is None or state is None:
            return formats.EMPTY
        values = [value for value, _severity in state.recent_values if value is not None]
        unit = _unit(job, state)
        return _render(
            "sparkline.html",
            {
                "spark": spark,
                "low": format_value(min(values), unit),
                "high": format_value(max(values), unit),
            },
        )

    @admin.display(description=gettext_lazy("since"))
    def since(self, job: Job) -> str:
        """When it came to this state."""
        state = _describe(job).state
        return formats.moment(None if state is None else state.since)

    @admin.display(description=gettext_lazy("next check"), ordering="soonest")
    def next_check(self, job: Job) -> str:
        """When it is measured again."""
        return self.next_run(job)

    # --- the form ---

    def get_urls(self) -> list[URLPattern]:
        """Those of a job, and the fields of a model."""
        fields_of = self.admin_site.admin_view(require_safe(self.fields_view))
        return [path("fields/", fields_of, name=self._name("fields")), *super().get_urls()]

    def fields_view(self, request: HttpRequest) -> HttpResponse:
        """JSON: what can be chosen of the model in the query."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        return JsonResponse({"fields": pickers.field_names(request.GET.get("model", ""))})

    def _kind(self, request: HttpRequest, obj: Job | None) -> str:
        if obj is not None and obj.pk is not None:
            return _probe(obj).kind
        return request.GET.get("kind", "")

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """The parameters of the kind, its thresholds, and the job's fields that matter here."""
        kind = self._kind(request, obj)
        try:
            params = [PARAM_PREFIX + param.name for param in fields(kind)]
            passive = kind_class(kind).passive
        except UnknownKind:
            params, passive = [], kind == HEARTBEAT
        changeable = obj is None or self.has_change_permission(request, obj)
        if not changeable or (not params and kind not in probe_kinds()):
            measured: Any = ("kind_display", "params_display", "thresholds_display")
            thresholds: Any = ()
        elif passive:
            address = ("ping_address",) if obj is not None else ()
            measured = ("kind_display", *params, *address)
            thresholds = ("probe_warning",)
        else:
            measured = ("kind_display", *params, ("probe_timeout", "probe_unit"))
            thresholds = (
                "probe_operator", ("probe_warning", "probe_critical"),
                ("probe_consecutive", "probe_recovery"),
            )  # fmt: skip
        if obj is None:  # the title says it
            measured = tuple(name for name in measured if name != "kind_display")
        retention_fields = ("probe_sample_days",) if thresholds else ()
        host_fields = () if passive else ("hostname",)
        return [
            (gettext_lazy("What"), {"fields": ("name", "description", *measured)}),
            *([(gettext_lazy("Thresholds"), {"fields": thresholds})] if thresholds else []),
            (
                gettext_lazy("When and where"),
                {"fields": ("enabled", "schedule", "timezone", "preview", *host_fields)},
            ),
            (
                gettext_lazy("Alerts"),
                {
                    "fields": (
                        "subscribers", ("email_on_failure", "reminder_hours"), "runbook_url",
                    )
                },
            ),
            (
                gettext_lazy("Bounds"),
                {
                    "classes": ("collapse",),
                    "fields": (
                        *retention_fields, "max_runs_kept", ("timeout_seconds", "memory_limit_mb"),
                        ("priority", "jitter_seconds"),
                    ),
                },
            ),
        ]  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> tuple[str, ...]:
        """What is not typed: the kind, the address of a heartbeat."""
        return (
            *super().get_readonly_fields(request, obj),
            "kind_display", "params_display", "thresholds_display", "ping_address",
        )  # fmt: skip

    def get_form(
        self, request: HttpRequest, obj: Job | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[Any]]:
        """That of the kind."""
        try:
            form = form_for(self._kind(request, obj), redisplay="_test" in request.POST)
        except UnknownKind:
            form = MonitorForm
        if not (obj is None or self.has_change_permission(request, obj)):
            form = MonitorForm  # nothing of it can be typed
        return super().get_form(request, obj, change, form=form, **kwargs)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """First the kind, then its form; "Test now" shows the form again with what it measured."""
        if object_id is None:
            if not self.has_add_permission(request):
                raise PermissionDenied
            kind = request.GET.get("kind", "")
            if kind not in probe_kinds():
                return self._kinds_view(request, unknown=kind)
            if not self.may_define(request, kind):
                raise PermissionDenied
        if request.method == "POST" and "_test" in request.POST:
            tested = self._test(request, object_id)
            extra_context = {**(extra_context or {}), "tested": tested, "test_requested": True}
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _kinds_view(self, request: HttpRequest, unknown: str) -> HttpResponse:
        kinds = [
            {"kind": kind, "label": probe.label or kind, "description": probe.description}
            for kind, probe in probe_kinds().items()
            if self.may_define(request, kind)
        ]
        return TemplateResponse(
            request,
            self.kinds_template,
            {
                **self.admin_site.each_context(request),
                "title": _("Add monitor"),
                "subtitle": None,
                "opts": self.opts,
                "kinds": sorted(kinds, key=lambda kind: str(kind["label"]).casefold()),
                "unknown": unknown,
                "media": self.media,
            },
            status=404 if unknown else 200,
        )

    def _test(self, request: HttpRequest, object_id: str | None) -> dict[str, Any] | None:
        """What the unsaved form measures; None where the form itself has to be mended first."""
        obj = None
        if object_id is not None:
            obj = self.get_object(request, object_id)
            if obj is None:
                raise Http404
            if not self.has_change_permission(request, obj):
                raise PermissionDenied
        kind = self._kind(request, obj)
        try:
            form_class = form_for(kind, test_only=True)
        except UnknownKind as error:
            return {"measurement": None, "error": str(error)}
        if form_class.passive:
            return {
                "measurement": None,
                "error": _("A heartbeat is told by pings; ping its address."),
            }
        form = form_class(request.POST, instance=obj or Monitor())
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
        except SandboxBusy as error:
            return {"measurement": None, "error": str(error)}
        return {
            "measurement": measurement,
            "badge": _badge(measurement.severity),
            "value": format_value(measurement.value, measurement.unit),
            "latency": formats.duration(measurement.latency_seconds),
        }

    def save_model(
        self, request: HttpRequest, obj: Job, form: ModelForm[Any], change: bool
    ) -> None:
        """Job and probe together."""
        assert isinstance(obj, Monitor)
        probe = obj.probe if change else Probe()
        if isinstance(form, MonitorForm) and form.kind:
            form.apply(probe)
        obj.save_with_probe(probe)
        for warning in obj.parsed_schedule().warnings():
            self.message_user(request, warning, messages.WARNING)

    # --- what is shown and not typed ---

    @admin.display(description=gettext_lazy("kind"))
    def kind_display(self, job: Job) -> str:
        """By its name in words."""
        return _label(_probe(job).kind) if job.pk else ""

    @admin.display(description=gettext_lazy("parameters"))
    def params_display(self, job: Job) -> str:
        """To those who may not change them; without what is secret."""
        if not job.pk:
            return formats.EMPTY
        probe = _probe(job)
        try:
            known = {param.name: param for param in fields(probe.kind)}
        except UnknownKind as error:
            return str(error)
        rows = [
            (known[name].label, MASK if known[name].secret else value)
            for name, value in probe.parameters.items()
            if name in known
        ]
        return _render("params.html", {"rows": rows})

    @admin.display(description=gettext_lazy("thresholds"))
    def thresholds_display(self, job: Job) -> str:
        """To those who may not change them."""
        return self.bounds(job) if job.pk else formats.EMPTY

    @admin.display(description=gettext_lazy("ping address"))
    def ping_address(self, job: Job) -> str:
        """What an outside job has to fetch, as far as this site knows its own name."""
        probe = _probe(job) if job.pk else None
        if probe is None or probe.ping_uuid is None:
            return formats.EMPTY
        try:
            address = reverse("chroniker_monitors:ping", args=[probe.ping_uuid])
        except NoReverseMatch:
            return _("This site does not include chroniker_monitors.urls.")
        return _render("ping.html", {"address": address, "uuid": probe.ping_uuid})

    # --- the page of one monitor ---

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Job | None = None,
    ) -> HttpResponse:
        """With its charts above the form."""
        kind = self._kind(request, obj)
        may_save = self.has_change_permission(request, obj) if change else True
        context.update(may_test=may_save and kind != HEARTBEAT)
        form = context["adminform"].form
        if pickers.link_fields(form.fields, self._admin_url(self._name("fields"))):
            names = pickers.field_names(form[pickers.MODEL].value() or "")
            context.update(picks_fields=True, field_names=names)
            field = form[pickers.FIELD]
            field.help_text = _render("field_help.html", {"help": field.help_text, "names": names})
        if add:
            context["title"] = _("Add monitor: %(kind)s") % {"kind": _label(kind)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _panel(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        now = utc_now()
        span = SPANS.get(request.GET.get("span", ""), SPANS["day"])
        probe, here = _probe(job), _describe(job)
        panels = []
        for state in sorted(placement_states(job), key=lambda s: -rank(Severity(s.severity)))[:HOSTS_SHOWN]:
            unit = _unit(job, state)
            rows = read_history(job.pk, state.host, span, now)
            bounds = [(Severity.WARNING, probe.warning), (Severity.CRITICAL, probe.critical)]
            panels.append(
                {
                    "host": state.host,
                    "state": state,
                    "badge": _badge(state.severity),
                    "value": format_value(state.value, unit),
                    "since": formats.moment(state.since, job.timezone),
                    "sampled": formats.moment(state.last_sample_at, job.timezone),
                    "latency": formats.duration(state.latency_seconds),
                    "chart": charts.draw_chart(rows, bounds, span, now, unit),
                    "table": _table(rows, unit, job.timezone),
                }
            )
        return {
            **super()._panel(request, job),
            "monitor": job,
            "monitor_display": here,
            "monitor_panels": panels,
            "spans": SPANS.values(),
            "span": span,
            "ping": probe.passive and _ping(job),
        }


def _render(template: str, context: dict[str, Any]) -> str:
    from django.template.loader import render_to_string

    return render_to_string(f"chroniker_monitors/admin/{template}", context)


def _probe(job: Job) -> Probe:
    probe: Probe = job.probe
    return probe


def _label(kind: str) -> str:
    try:
        return str(kind_class(kind).label or kind)
    except UnknownKind:
        return kind


def _unit(job: Job, state: MonitorState) -> str:
    return _probe(job).unit or state.unit


def _describe(job: Job) -> MonitorDisplay:
    return describe_monitor(job, placement_states(job))


def _badge(severity: int) -> str:
    here = Severity(severity)
    return formats.badge(f"severity-{here.name.lower()}", here.label)


def _bounds(job: Job) -> list[dict[str, Any]]:
    probe, state = _probe(job), _describe(job).state
    unit = probe.unit or (state.unit if state is not None else "")
    return [
        {"label": severity.label, "operator": probe.operator, "value": format_value(value, unit)}
        for severity, value in (
            (Severity.WARNING, probe.warning),
            (Severity.CRITICAL, probe.critical),
        )
        if value is not None
    ]


def _table(rows: list[Any], unit: str, zone: str) -> list[dict[str, Any]]:
    """The newest first, for those who do not see the picture."""
    return [
        {
            "at": formats.clock(row.at, zone),
            "low": format_value(row.low, unit),
            "mean": format_value(row.mean, unit),
            "high": format_value(row.high, unit),
            "worst": row.worst.label,
            "samples": row.samples,
        }
        for row in reversed(rows[-200:])
    ]


def _ping(job: Job) -> MonitorState | None:
    return MonitorState.objects.filter(job=job.pk, host="", last_ping_at__isnull=False).first()
