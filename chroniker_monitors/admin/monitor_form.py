"""The form of a monitor: who may define which kind, its fieldsets, and how it is saved."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.admin import JobAdmin, formats
from chroniker.alerting.links import site_url
from chroniker.masking import MASK
from chroniker.models import Job
from chroniker_monitors.enums import HEARTBEAT, SQL
from chroniker_monitors.exceptions import UnknownKind
from chroniker_monitors.models import Monitor, Probe
from chroniker_monitors.probes import fields, kind_class, probe_kinds

from .forms import PARAM_PREFIX, MonitorForm, form_for
from .monitor_columns import bounds
from .monitor_display import kind_label
from .templates import render

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

_REDISPLAY = {"_test", "_backtest"}
"""The buttons after which the form is shown again instead of being saved."""
FieldNames = tuple[str | tuple[str, ...], ...]


class MonitorFormAdmin(JobAdmin):
    """The hooks of ``ModelAdmin`` that build and save the form of a monitor."""

    def may_define(self, request: HttpRequest, kind: str) -> bool:
        """Whether the user may define monitors of a kind, which may need its own permission."""
        permission = "chroniker_monitors.use_sql_probe" if kind == SQL else ""
        with suppress(UnknownKind):  # such a monitor can still be viewed and deleted
            permission = kind_class(kind).permission or permission
        return not permission or request.user.has_perm(permission)

    def may_edit(self, request: HttpRequest, obj: Job | None) -> bool:
        """Whether the user could have defined the monitor."""
        return super().may_edit(request, obj) and (
            obj is None or not hasattr(obj, "probe") or self.may_define(request, obj.probe.kind)
        )

    def get_kind(self, request: HttpRequest, obj: Job | None) -> str:
        """Return the kind of a stored monitor, or the kind in the query of the add page."""
        if obj is not None and obj.pk is not None:
            return obj.probe.kind
        return request.GET.get("kind", "")

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> _FieldsetSpec:
        """Show the parameters of the kind, the thresholds, and the relevant fields of the job."""
        editable = obj is None or self.has_change_permission(request, obj)
        return monitor_fieldsets(self.get_kind(request, obj), adding=obj is None, editable=editable)

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> tuple[str, ...]:
        """Add the kind and the address of a heartbeat, and the probe if the user may only view."""
        return (
            *super().get_readonly_fields(request, obj),
            "kind_display", "params_display", "thresholds_display", "ping_address",
        )  # fmt: skip

    def get_form(
        self, request: HttpRequest, obj: Job | None = None, change: bool = False, **kwargs: object
    ) -> type[ModelForm[Job]]:
        """Return the form of the kind, or a form without parameters if nothing can be edited."""
        try:
            form = form_for(
                self.get_kind(request, obj), redisplay=bool(_REDISPLAY & request.POST.keys())
            )
        except UnknownKind:
            form = MonitorForm
        if not (obj is None or self.has_change_permission(request, obj)):
            form = MonitorForm
        return super().get_form(request, obj, change, form=form, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Job, form: ModelForm[Job], change: bool
    ) -> None:
        """Save the job and the probe, and show the schedule's warnings."""
        assert isinstance(obj, Monitor)
        probe = obj.probe if change else Probe()
        if isinstance(form, MonitorForm) and form.kind:
            form.apply(probe)
        obj.save_with_probe(probe)
        for warning in obj.parsed_schedule().warnings_at(utc_now()):
            self.message_user(request, warning, messages.WARNING)

    @admin.display(description=gettext_lazy("kind"))
    def kind_display(self, job: Job) -> str:
        """Show the label of the kind."""
        return kind_label(job.probe.kind) if job.pk else ""

    @admin.display(description=gettext_lazy("parameters"))
    def params_display(self, job: Job) -> str:
        """Show the parameters to users who may not edit them, with secrets masked."""
        if not job.pk:
            return formats.EMPTY
        try:
            known = {param.name: param for param in fields(job.probe.kind)}
        except UnknownKind as error:
            return str(error)
        rows = [
            (known[name].label, MASK if known[name].secret else value)
            for name, value in job.probe.parameters.items()
            if name in known
        ]
        return render("params.html", {"rows": rows})

    @admin.display(description=gettext_lazy("thresholds"))
    def thresholds_display(self, job: Job) -> str:
        """Show the thresholds to users who may not edit them."""
        return bounds(job) if job.pk else formats.EMPTY

    @admin.display(description=gettext_lazy("ping address"))
    def ping_address(self, job: Job) -> str:
        """Show the address that an outside job fetches, or its path without the site's URL."""
        uuid = job.probe.ping_uuid if job.pk else None
        if uuid is None:
            return formats.EMPTY
        try:
            address = reverse("chroniker_monitors:ping", args=[uuid])
        except NoReverseMatch:
            return _("Add chroniker_monitors.urls to the URLs of this site to receive pings.")
        return render("ping.html", {"address": site_url() + address, "absolute": site_url()})


def may_share(kind: str) -> bool:
    """Whether a monitor of this kind may be measured in one process with others."""
    try:
        return not kind_class(kind).own_process
    except UnknownKind:
        return False


def monitor_fieldsets(kind: str, *, adding: bool, editable: bool) -> _FieldsetSpec:
    """Build the fieldsets of a monitor of this kind."""
    try:
        params = tuple(PARAM_PREFIX + param.name for param in fields(kind))
        passive = kind_class(kind).passive
    except UnknownKind:
        params, passive = (), kind == HEARTBEAT
    kind_field = () if adding else ("kind_display",)  # the title of the add page has the kind
    measured: FieldNames
    thresholds: FieldNames = ()
    if not editable or (not params and kind not in probe_kinds()):
        measured = (*kind_field, "params_display", "thresholds_display")
    elif passive:
        measured = (*kind_field, *params, *(() if adding else ("ping_address",)))
        thresholds = ("probe_warning",)
    else:
        measured = (*kind_field, *params, ("probe_timeout", "probe_unit"))
        thresholds = (
            "probe_operator", ("probe_warning", "probe_critical"),
            ("probe_consecutive", "probe_recovery"),
        )  # fmt: skip
    threshold_fieldsets: _FieldsetSpec = (
        [(gettext_lazy("Thresholds"), {"fields": thresholds})] if thresholds else []
    )
    retention_fields = ("probe_sample_days",) if thresholds else ()
    process_fields = (
        ("probe_own_process",) if thresholds and not passive and may_share(kind) else ()
    )
    host_fields = () if passive else ("hostname",)
    return [
        (gettext_lazy("Monitor"), {"fields": ("name", "description", *measured)}),
        *threshold_fieldsets,
        (
            gettext_lazy("Schedule and host"),
            {"fields": ("enabled", "schedule", "timezone", "preview", *host_fields)},
        ),
        (
            gettext_lazy("Alerts"),
            {
                "fields": (
                    "subscribers", ("email_on_failure", "reminder_hours"), "team", "runbook_url",
                )
            },
        ),
        (
            gettext_lazy("Limits"),
            {
                "classes": ("collapse",),
                "fields": (
                    *retention_fields, "max_runs_kept", ("timeout_seconds", "memory_limit_mb"),
                    ("priority", "jitter_seconds"), *process_fields,
                ),
            },
        ),
    ]  # fmt: skip
