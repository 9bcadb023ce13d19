"""The form of a job: its fields, what it suggests, and the preview of the schedule."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.contrib.auth import get_permission_codename, get_user_model
from django.contrib.auth.models import Group
from django.core.management import get_commands
from django.db.models import Field, Model
from django.forms import Field as FormField
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy

from chroniker.commands import check_command
from chroniker.exceptions import CommandRefused, ScheduleError
from chroniker.models import Job
from chroniker.schedules import parse

from . import formats
from .job_permissions import JobPermissionAdmin

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

TIMES_SHOWN = 5
"""Next times in a preview."""
COMMANDS_LIST = "chroniker-commands"
ZONES_LIST = "chroniker-zones"
"""The ids of the lists in the page that suggest commands and time zones."""

FIELDSETS: _FieldsetSpec = (
    (
        gettext_lazy("Job"),
        {"fields": ("name", "description", "command", "args", "raw_command")},
    ),
    (
        gettext_lazy("Schedule and host"),
        {
            "fields": (
                "enabled", "schedule", "timezone", "preview", "hostname",
                ("start_deadline_seconds", "jitter_seconds"),
            )
        },
    ),
    (
        gettext_lazy("Limits"),
        {
            "fields": (
                ("timeout_seconds", "expected_seconds"),
                ("kill_grace_seconds", "memory_limit_mb"),
                ("priority", "nice"),
            )
        },
    ),
    (
        gettext_lazy("Retries"),
        {"fields": (("max_retries", "retry_delay_seconds"), "restart_interrupted")},
    ),
    (
        gettext_lazy("Output"),
        {"fields": ("stderr_is_failure", ("log_stdout", "log_stderr"), "max_runs_kept")},
    ),
    (
        gettext_lazy("Alerts"),
        {
            "fields": (
                "subscribers", "subscriber_groups", ("email_on_failure", "email_on_success"),
                ("failures_before_alert", "reminder_hours"), "runbook_url",
            )
        },
    ),
)  # fmt: skip


class JobFormAdmin(JobPermissionAdmin):
    """The hooks of ``ModelAdmin`` that build and save the form of a job."""

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> _FieldsetSpec:
        """Hide the raw command from users who may not define one.

        If the job has one, they see the form read-only, so showing the field allows no change.
        """
        fieldsets = super().get_fieldsets(request, obj)
        if self.has_raw_permission(request) or (obj is not None and obj.raw_command):
            return fieldsets
        return [
            (title, {**options, "fields": [f for f in options["fields"] if f != "raw_command"]})
            for title, options in fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> tuple[str, ...]:
        """Subscribers are read-only for users who may not view users."""
        if self._may_view_users(request):
            return ("preview",)
        return ("preview", "subscribers", "subscriber_groups")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """A site may have many users; use a plain list only if it has no pages for them."""
        model = get_user_model()
        if not self.admin_site.is_registered(model) or not self._may_view_users(request):
            return ()
        models: dict[str, type[Model]] = {"subscribers": model, "subscriber_groups": Group}
        return tuple(
            field
            for field, related in models.items()
            if self.admin_site.is_registered(related)
            and self.admin_site.get_model_admin(related).get_search_fields(request)
        )

    def get_form(
        self, request: HttpRequest, obj: Job | None = None, change: bool = False, **kwargs: object
    ) -> type[ModelForm[Job]]:
        """Require a command if the form has no raw command."""
        form = super().get_form(request, obj, change, **kwargs)
        if "raw_command" not in form.base_fields and "command" in form.base_fields:
            form.base_fields["command"].required = True
        return form

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: object
    ) -> FormField | None:
        """Add suggestions for commands and zones, the preview's URL, and short text areas."""
        attributes = {
            "schedule": {"data-preview-url": self.admin_url(self.view_name("preview"))},
            "timezone": {"list": ZONES_LIST},
            "command": {"list": COMMANDS_LIST},
        }
        if db_field.name in attributes:
            kwargs["widget"] = AdminTextInputWidget(attrs=attributes[db_field.name])
        elif db_field.name in ("description", "args", "raw_command"):
            kwargs["widget"] = AdminTextareaWidget(attrs={"rows": 2})
        elif db_field.name == "runbook_url":
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Job, form: ModelForm[Job], change: bool
    ) -> None:
        """Show the schedule's warnings after saving."""
        super().save_model(request, obj, form, change)
        for warning in obj.parsed_schedule().warnings():
            self.message_user(request, warning, messages.WARNING)

    @admin.display(description=gettext_lazy("preview"))
    def preview(self, job: Job) -> str:
        """What the stored schedule does. A script updates it as the user types."""
        shown = preview_schedule(job.schedule, job.timezone, job.name) if job.pk else {}
        return formats.render("preview.html", {"preview": shown})

    def _may_view_users(self, request: HttpRequest) -> bool:
        model = get_user_model()
        if self.admin_site.is_registered(model):
            return self.admin_site.get_model_admin(model).has_view_permission(request)
        name = f"{model._meta.app_label}.{get_permission_codename('view', model._meta)}"
        return request.user.has_perm(name)


def preview_schedule(schedule: str, zone: str, name: str) -> dict[str, object]:
    """A schedule as a sentence, its next times in its zone and its warnings; or its error."""
    try:
        parsed = parse(schedule, zone=zone, name=name)
        times = parsed.upcoming(utc_now(), TIMES_SHOWN)
    except ScheduleError as error:
        return {"error": str(error)}
    return {
        "explain": parsed.explain(),
        "times": [formats.time_text(time, zone) for time in times],
        "ends": len(times) < TIMES_SHOWN and parsed.kind != "manual",
        "warnings": parsed.warnings(),
    }


def allowed_commands() -> list[str]:
    """The commands that jobs of this site may run."""
    allowed = []
    for name in sorted(get_commands()):
        try:
            check_command(name)
        except CommandRefused:
            continue
        allowed.append(name)
    return allowed


@cache
def time_zones() -> list[str]:
    """The names of all time zones."""
    return sorted(available_timezones())
