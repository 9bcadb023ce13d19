"""The form of a job: its fields, what it suggests, and the preview of the schedule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

from chroniker.commands import check_arguments, check_command
from chroniker.exceptions import CommandRefused, ScheduleError
from chroniker.models import Job
from chroniker.schedules import parse
from chroniker.site_tasks import has_library

from . import formats
from .display_state import host_never_ticked
from .job_permissions import JobPermissionAdmin
from .site_status import load_site_status

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

    JobModelForm = ModelForm[Job]
else:
    JobModelForm = ModelForm

TIMES_SHOWN = 5
"""Next times in a preview."""
COMMANDS_LIST = "chroniker-commands"
TASKS_LIST = "chroniker-tasks"
ZONES_LIST = "chroniker-zones"
HOSTS_LIST = "chroniker-hosts"
"""The ids of the lists in the page that suggest commands, tasks, time zones and hosts."""
TASK_FIELDS = ("task", "task_args", "task_kwargs", "enqueue")

FIELDSETS: _FieldsetSpec = (
    (
        gettext_lazy("Job"),
        {
            "fields": (
                "name", "description", "command", "args",
                "task", ("task_args", "task_kwargs"), "enqueue", "raw_command",
            )
        },
    ),
    (
        gettext_lazy("When and where"),
        {
            "fields": (
                "enabled", "schedule", "timezone", "preview", "hostname", ("executor", "queue"),
                ("timeout_seconds", "expected_seconds", "minimum_seconds"),
            )
        },
    ),
    (
        gettext_lazy("Limits"),
        {
            "classes": ("collapse",),
            "fields": (
                ("kill_grace_seconds", "memory_limit_mb"),
                ("priority", "nice"), ("start_deadline_seconds", "jitter_seconds"),
            )
        },
    ),
    (
        gettext_lazy("Retries"),
        {
            "classes": ("collapse",),
            "fields": (("max_retries", "retry_delay_seconds"), "restart_interrupted"),
        },
    ),
    (
        gettext_lazy("Output"),
        {
            "classes": ("collapse",),
            "fields": ("stderr_is_failure", ("log_stdout", "log_stderr"), "max_runs_kept"),
        },
    ),
    (
        gettext_lazy("Alerts"),
        {
            "fields": (
                "subscribers", "subscriber_groups", ("email_on_failure", "email_on_success"),
                ("team", "alert_severity"),
                ("failures_before_alert", "count_attempts", "reminder_hours"),
                ("finish_by", "success_objective"), "runbook_url",
            )
        },
    ),
)  # fmt: skip


class JobForm(JobModelForm):
    """A job whose arguments its command accepts."""

    def clean(self) -> dict[str, Any] | None:
        """Let the command's own parser check the arguments."""
        cleaned = super().clean()
        for name, empty in (("task_args", []), ("task_kwargs", {})):
            if name in self.cleaned_data and self.cleaned_data[name] is None:
                self.cleaned_data[name] = empty
        command = self.cleaned_data.get("command")
        if command and "args" in self.cleaned_data:
            try:
                check_command(command)
            except CommandRefused:
                return cleaned  # the model's own validation says why
            try:
                check_arguments(command, self.cleaned_data["args"])
            except CommandRefused as error:
                self.add_error("args", str(error))
        return cleaned


class JobFormAdmin(JobPermissionAdmin):
    """The hooks of ``ModelAdmin`` that build and save the form of a job."""

    form = JobForm
    has_page = False
    """Whether there is a page to read beside the form, to which the list links."""

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> _FieldsetSpec:
        """Hide the raw command from users who may not define one, and tasks where none can exist.

        If the job has a raw command, such users see the form read-only, so showing the field allows
        no change.
        """
        hidden: set[str] = set()
        if not self.has_raw_permission(request) and not (obj and obj.raw_command):
            hidden.add("raw_command")
        if not has_library() and not (obj and obj.task):
            hidden.update(TASK_FIELDS)
        return [
            (title, {**options, "fields": _without(options["fields"], hidden)})
            for title, options in super().get_fieldsets(request, obj)
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

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: object
    ) -> FormField | None:
        """Add suggestions for commands and zones, the preview's URL, and short text areas."""
        attributes = {
            "schedule": {"data-preview-url": self.admin_url(self.view_name("preview"))},
            "timezone": {"list": ZONES_LIST},
            "command": {
                "list": COMMANDS_LIST,
                "data-help-url": self.admin_url(self.view_name("command_help")),
            },
            "task": {
                "list": TASKS_LIST,
                "data-help-url": self.admin_url(self.view_name("task_help")),
                "class": "vURLField",  # wider: dotted paths are long
            },
            "hostname": {"list": HOSTS_LIST},
        }
        if db_field.name in attributes:
            kwargs["widget"] = AdminTextInputWidget(attrs=attributes[db_field.name])
        elif db_field.name in ("description", "args", "raw_command", "task_args", "task_kwargs"):
            kwargs["widget"] = AdminTextareaWidget(attrs={"rows": 2})
        elif db_field.name == "runbook_url":
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Job, form: ModelForm[Job], change: bool
    ) -> None:
        """Show the warnings about the schedule and the host after saving."""
        super().save_model(request, obj, form, change)
        for warning in obj.parsed_schedule().warnings_at(utc_now()):
            self.message_user(request, warning, messages.WARNING)
        if obj.hostname and not obj.every_host and obj.hostname not in host_names(request):
            self.message_user(request, host_never_ticked(obj.hostname), messages.WARNING)

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
        "warnings": parsed.warnings_at(utc_now()),
    }


def host_names(request: HttpRequest) -> list[str]:
    """The hosts that have ticked and are not retired."""
    hosts = load_site_status(request).hosts
    return [host.name for host in hosts if host.last_tick_at is not None]


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


def _without(
    fields: Iterable[str | Sequence[str]], hidden: set[str]
) -> tuple[str | tuple[str, ...], ...]:
    """The fields of a fieldset, which may be grouped in lines, without those that are hidden."""
    lines = ((line,) if isinstance(line, str) else line for line in fields)
    kept = (tuple(name for name in line if name not in hidden) for line in lines)
    return tuple(line[0] if len(line) == 1 else line for line in kept if line)


@cache
def time_zones() -> list[str]:
    """The names of all time zones."""
    return sorted(available_timezones())
