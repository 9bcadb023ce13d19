"""Jobs: what is defined, where each stands, and the buttons to run and stop them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import available_timezones

from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget
from django.contrib.auth import get_permission_codename, get_user_model
from django.contrib.auth.models import Group
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.core.exceptions import PermissionDenied
from django.core.management import get_commands
from django.db.models import Exists, F, Field, OuterRef, Prefetch, QuerySet, Subquery
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from chroniker.commands import check_command
from chroniker.exceptions import CommandRefused, ScheduleError
from chroniker.models import Job, JobDependency, JobState, Maintenance, Run
from chroniker.schedules import parse

from . import filters, formats
from .deletion import deletable
from .orders import end_mute, mute, order_run, order_stop, switch
from .saving import PatientAdmin
from .standing import last_ended, next_run_at, read_schedule, slots, standing

if TYPE_CHECKING:
    DependencyTabularInline = admin.TabularInline[JobDependency, Job]
else:
    DependencyTabularInline = admin.TabularInline

RUNS_SHOWN = 10
TIMES_SHOWN = 5


class DependencyInline(DependencyTabularInline):
    """What the job waits for."""

    model = JobDependency
    fk_name = "downstream"
    autocomplete_fields = ("upstream",)
    extra = 0
    verbose_name = gettext_lazy("job that this one waits for")
    verbose_name_plural = gettext_lazy("waits for")


@admin.register(Job)
class JobAdmin(PatientAdmin[Job]):
    """Definitions are edited; state is shown beside them and never part of the form."""

    list_display = ("title", "state", "last_run", "next_run", "when")
    list_filter = (
        filters.StateFilter,
        "enabled",
        filters.LastStatusFilter,
        filters.CommandFilter,
        filters.HostFilter,
    )
    search_fields = ("name", "command", "description", "args")
    search_help_text = gettext_lazy("Words of the name, command, description or arguments.")
    show_full_result_count = False
    actions = ("run_now", "stop", "enable", "disable", "mute_hour", "mute_day", "unmute")
    inlines = (DependencyInline,)
    save_on_top = True
    change_form_template = "chroniker/admin/job.html"
    fieldsets: ClassVar[Any] = (
        (
            gettext_lazy("What"),
            {"fields": ("name", "description", "command", "args", "raw_command")},
        ),
        (
            gettext_lazy("When and where"),
            {
                "fields": (
                    "enabled", "schedule", "timezone", "preview", "hostname",
                    ("start_deadline_seconds", "jitter_seconds"),
                )
            },
        ),
        (
            gettext_lazy("Bounds"),
            {
                "fields": (
                    ("timeout_seconds", "expected_seconds"),
                    ("kill_grace_seconds", "memory_limit_mb"),
                    ("priority", "nice"),
                )
            },
        ),
        (gettext_lazy("Retries"), {"fields": (("max_retries", "retry_delay_seconds"),)}),
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

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker/admin.css"]}
        js = ("chroniker/schedule-preview.js",)

    # --- who may what ---

    def has_run_permission(self, request: HttpRequest) -> bool:
        """May ask for runs."""
        return request.user.has_perm("chroniker.run_job")

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """May end what runs."""
        return request.user.has_perm("chroniker.stop_job")

    def has_raw_permission(self, request: HttpRequest) -> bool:
        """May define jobs that run any program."""
        return request.user.has_perm("chroniker.raw_job")

    def has_mute_permission(self, request: HttpRequest) -> bool:
        """May make maintenance windows."""
        return request.user.has_perm("chroniker.add_maintenance")

    def has_unmute_permission(self, request: HttpRequest) -> bool:
        """May end them."""
        return request.user.has_perm("chroniker.change_maintenance")

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """A job with a raw command is only for those who could have defined it."""
        return super().has_change_permission(request, obj) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """The same."""
        return super().has_delete_permission(request, obj) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, obj: Job | None) -> bool:
        return obj is None or not obj.raw_command or self.has_raw_permission(request)

    # --- the list ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """With states in one query, and two columns to sort by."""
        states = JobState.objects.defer("duration_buckets", "start_lag_buckets").order_by("host")
        own = JobState.objects.filter(job=OuterRef("pk"))
        soonest = own.order_by(F("next_run_at").asc(nulls_last=True)).values("next_run_at")[:1]
        latest = own.order_by(F("last_started_at").desc(nulls_last=True)).values("last_started_at")
        return (
            super()
            .get_queryset(request)
            .prefetch_related(Prefetch("states", states))
            .annotate(
                soonest=Subquery(soonest),
                latest=Subquery(latest[:1]),
                is_muted=Exists(Maintenance.objects.active(utc_now()).covering(OuterRef("pk"))),
            )
        )

    @admin.display(description=gettext_lazy("job"), ordering="name")
    def title(self, job: Job) -> str:
        """The name, and the command without its arguments."""
        command = job.command or _("raw command")
        return format_html("{}<br><small>{}</small>", job.name, command)

    @admin.display(description=gettext_lazy("state"))
    def state(self, job: Job) -> str:
        """What it does now and how far it is, or why it does nothing."""
        states = _slots(job)
        here = standing(job, states, utc_now())
        return formats.render(
            "state.html",
            {
                "badge": formats.badge(here.word, here.label),
                "detail": here.detail,
                "progress": _progress(states),
                "muted": getattr(job, "is_muted", False),
            },
        )

    @admin.display(description=gettext_lazy("last run"), ordering="latest")
    def last_run(self, job: Job) -> str:
        """How it ended, when, and how long it took."""
        state = last_ended(_slots(job))
        if state is None:
            return formats.EMPTY
        return formats.render(
            "last_run.html",
            {
                "status": formats.run_status(state.last_status),
                "when": state.last_ended_at and naturaltime(state.last_ended_at),
                "duration": formats.duration(state.last_duration_seconds),
                "url": state.last_run_id
                and self._admin_url("chroniker_run_change", state.last_run_id),
                "host": state.host,
                "failures": state.consecutive_failures,
            },
        )

    @admin.display(description=gettext_lazy("next run"), ordering="soonest")
    def next_run(self, job: Job) -> str:
        """In the job's zone."""
        if not job.enabled:
            return formats.EMPTY
        return formats.moment(next_run_at(_slots(job)), job.timezone)

    @admin.display(description=gettext_lazy("schedule"), ordering="schedule")
    def when(self, job: Job) -> str:
        """As a sentence, with its text; or why it cannot be read."""
        reading = read_schedule(job)
        return formats.render("schedule.html", {"reading": reading, "job": job})

    # --- actions on the list ---

    @admin.action(permissions=["run"], description=gettext_lazy("Run selected jobs now"))
    def run_now(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Ask for a run of each."""
        self._order_run(request, _plain(queryset))

    @admin.action(permissions=["stop"], description=gettext_lazy("Stop selected jobs"))
    def stop(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Ask that those that run be stopped."""
        self._order_stop(request, _plain(queryset))

    @admin.action(permissions=["change"], description=gettext_lazy("Enable selected jobs"))
    def enable(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Let their schedules apply."""
        self._switch(request, queryset, enabled=True)

    @admin.action(permissions=["change"], description=gettext_lazy("Disable selected jobs"))
    def disable(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Let their schedules rest; what runs goes on."""
        self._switch(request, queryset, enabled=False)

    @admin.action(permissions=["mute"], description=gettext_lazy("Mute for 1 hour"))
    def mute_hour(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """No alert of theirs for an hour."""
        self._mute(request, queryset, hours=1)

    @admin.action(permissions=["mute"], description=gettext_lazy("Mute for a day"))
    def mute_day(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """No alert of theirs for a day."""
        self._mute(request, queryset, hours=24)

    @admin.action(permissions=["unmute"], description=gettext_lazy("Unmute"))
    def unmute(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Let them alert again; what is still wrong is told with the next tick."""
        now = utc_now()
        jobs = list(_plain(queryset))
        number = end_mute(jobs, now=now, user_id=_user_id(request))
        text = ngettext("%d job was unmuted.", "%d jobs were unmuted.", number)
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)
        if left := Job.objects.muted(now).filter(pk__in=[job.pk for job in jobs]).count():
            text = ngettext(
                "%d job is still muted by a maintenance window that pauses it or is for all.",
                "%d jobs are still muted by maintenance windows that pause them or are for all.",
                left,
            )
            self.message_user(request, text % left, messages.WARNING)

    def _mute(self, request: HttpRequest, queryset: QuerySet[Job], *, hours: int) -> None:
        number = mute(_plain(queryset), hours=hours, now=utc_now(), user_id=_user_id(request))
        text = ngettext("%d job was muted.", "%d jobs were muted.", number)
        self.message_user(request, text % number, messages.SUCCESS)

    def _order_run(self, request: HttpRequest, jobs: Iterable[Job]) -> None:
        number = order_run(jobs, user_id=_user_id(request))
        if number:
            text = ngettext(
                "%d run was asked for; the next tick starts it.",
                "%d runs were asked for; the next tick starts them.",
                number,
            )
            self.message_user(request, text % number, messages.SUCCESS)
        else:
            text = _("Nothing new to ask for: it was asked before, or no host is there to run it.")
            self.message_user(request, text, messages.WARNING)

    def _order_stop(self, request: HttpRequest, jobs: Iterable[Job]) -> None:
        number = order_stop(jobs, user_id=_user_id(request))
        if number:
            text = ngettext("%d run was asked to stop.", "%d runs were asked to stop.", number)
            self.message_user(request, text % number, messages.SUCCESS)
        else:
            text = _("Nothing to stop: nothing runs, or it was asked before.")
            self.message_user(request, text, messages.WARNING)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Job], *, enabled: bool) -> None:
        jobs = list(_plain(queryset))
        mine = [job for job in jobs if self.has_change_permission(request, job)]
        number = switch(mine, enabled=enabled, now=utc_now(), user_id=_user_id(request))
        if enabled:
            text = ngettext("%d job was enabled.", "%d jobs were enabled.", number)
        else:
            text = ngettext("%d job was disabled.", "%d jobs were disabled.", number)
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)
        if left := len(jobs) - len(mine):
            text = ngettext(
                "%d job has a raw command, which you may not change.",
                "%d jobs have a raw command, which you may not change.",
                left,
            )
            self.message_user(request, text % left, messages.WARNING)

    # --- pages beside the list and the form ---

    def get_urls(self) -> list[URLPattern]:
        """Run, stop, and the preview of a schedule."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/run/", wrap(require_POST(self.run_view)), name=self._name("run")),
            path("<int:pk>/stop/", wrap(require_POST(self.stop_view)), name=self._name("stop")),
            path("preview/", wrap(require_safe(self.preview_view)), name=self._name("preview")),
            *super().get_urls(),
        ]

    def run_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for a run of one job."""
        job = self._visible(request, pk)
        if not self.has_run_permission(request):
            raise PermissionDenied
        self._order_run(request, [job])
        return HttpResponseRedirect(self._admin_url(self._name("change"), pk))

    def stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask that one job be stopped, on each host that runs it."""
        job = self._visible(request, pk)
        if not self.has_stop_permission(request):
            raise PermissionDenied
        self._order_stop(request, [job])
        return HttpResponseRedirect(self._admin_url(self._name("change"), pk))

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """JSON: what the schedule in the query would do. Reads nothing but the query."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        schedule, zone, name = (request.GET.get(key, "") for key in ("schedule", "zone", "name"))
        return JsonResponse(explain_schedule(schedule, zone, name))

    def _visible(self, request: HttpRequest, pk: int) -> Job:
        job = self.get_queryset(request).filter(pk=pk).first()
        if not self.has_view_or_change_permission(request, job):
            raise PermissionDenied
        if job is None:
            raise Http404
        return job

    def _name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    def _admin_url(self, name: str, *args: int) -> str:
        return reverse(f"admin:{name}", args=args, current_app=self.admin_site.name)

    # --- the form ---

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """Without the raw command for those who may not define one.

        A job that has one they only view, so that seeing the field changes nothing.
        """
        fieldsets = super().get_fieldsets(request, obj)
        if self.has_raw_permission(request) or (obj is not None and obj.raw_command):
            return fieldsets
        return [
            (title, {**options, "fields": [f for f in options["fields"] if f != "raw_command"]})
            for title, options in fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> tuple[str, ...]:
        """Whoever may not see the users only sees who is subscribed."""
        if self._may_view_users(request):
            return ("preview",)
        return ("preview", "subscribers", "subscriber_groups")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """A site may have many users; a plain list only where this admin does not know them."""
        model = get_user_model()
        if not self.admin_site.is_registered(model) or not self._may_view_users(request):
            return ()
        known: dict[str, Any] = {"subscribers": model, "subscriber_groups": Group}
        return tuple(
            field
            for field, related in known.items()
            if self.admin_site.is_registered(related)
            and self.admin_site.get_model_admin(related).get_search_fields(request)
        )

    def get_form(
        self, request: HttpRequest, obj: Job | None = None, change: bool = False, **kwargs: Any
    ) -> type[ModelForm[Job]]:
        """A command is needed where there can be no raw command."""
        form = super().get_form(request, obj, change, **kwargs)
        if "raw_command" not in form.base_fields and "command" in form.base_fields:
            form.base_fields["command"].required = True
        return form

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Suggestions for commands and zones, a preview for the schedule, short text areas."""
        attrs = {
            "schedule": {"data-preview-url": self._admin_url(self._name("preview"))},
            "timezone": {"list": "chroniker-zones"},
            "command": {"list": "chroniker-commands"},
        }
        if db_field.name in attrs:
            kwargs["widget"] = AdminTextInputWidget(attrs=attrs[db_field.name])
        elif db_field.name in ("description", "args", "raw_command"):
            kwargs["widget"] = AdminTextareaWidget(attrs={"rows": 2})
        elif db_field.name == "runbook_url":
            kwargs["assume_scheme"] = "https"
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Job, form: ModelForm[Job], change: bool
    ) -> None:
        """Tell what the schedule allows but may not mean."""
        super().save_model(request, obj, form, change)
        for warning in obj.parsed_schedule().warnings():
            self.message_user(request, warning, messages.WARNING)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Counted instead of loaded: a job may have gigabytes of output."""
        running = JobState.objects.filter(
            job__in=[job.pk for job in objs], lease_token__isnull=False
        ).values_list("job", flat=True)
        return deletable(self, request, objs, set(running))

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Job | None = None,
    ) -> HttpResponse:
        """With the states and the last runs beside the form."""
        context.update(commands=_allowed_commands(), zones=_zones())
        if obj is not None and obj.pk is not None:
            context.update(self._panel(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _panel(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        now = utc_now()
        may_view_runs = request.user.has_perm("chroniker.view_run")
        runs = Run.objects.filter(job=job).order_by("-id").defer("error")[:RUNS_SHOWN]
        rows = _slots(job)
        return {
            "job": job,
            "states": [_state_row(job, state, now) for state in rows],
            "standing": standing(job, rows, now),
            "runs": [_run_row(run) for run in runs] if may_view_runs else [],
            "may_view_runs": may_view_runs,
            "may_run": self.has_run_permission(request),
            "may_stop": self.has_stop_permission(request)
            and any(state.lease_token for state in rows),
            "run_url": self._admin_url(self._name("run"), job.pk),
            "stop_url": self._admin_url(self._name("stop"), job.pk),
        }

    @admin.display(description=gettext_lazy("preview"))
    def preview(self, job: Job) -> str:
        """What the schedule does; a script keeps it in step with what is typed."""
        shown = explain_schedule(job.schedule, job.timezone, job.name) if job.pk else {}
        return formats.render("preview.html", {"preview": shown})

    def _may_view_users(self, request: HttpRequest) -> bool:
        model = get_user_model()
        if self.admin_site.is_registered(model):
            return self.admin_site.get_model_admin(model).has_view_permission(request)
        name = f"{model._meta.app_label}.{get_permission_codename('view', model._meta)}"
        return request.user.has_perm(name)


def explain_schedule(schedule: str, zone: str, name: str) -> dict[str, Any]:
    """A schedule explained: its sentence, its next times in its zone, warnings; or its error."""
    try:
        parsed = parse(schedule, zone=zone, name=name)
        times = parsed.upcoming(utc_now(), TIMES_SHOWN)
    except ScheduleError as error:
        return {"error": str(error)}
    return {
        "explain": parsed.explain(),
        "times": [formats.clock(time, zone) for time in times],
        "ends": len(times) < TIMES_SHOWN and parsed.kind != "manual",
        "warnings": parsed.warnings(),
    }


def _plain(queryset: QuerySet[Job]) -> QuerySet[Job]:
    """Without the states that the list shows."""
    return queryset.prefetch_related(None)


def _user_id(request: HttpRequest) -> int:
    pk = request.user.pk
    assert pk is not None  # admin_view let nobody in who is not signed in
    return int(pk)


def _slots(job: Job) -> list[JobState]:
    return slots(job, list(job.states.all()))


def _progress(states: Iterable[JobState]) -> str:
    """Of what runs now, on all hosts together; empty where nothing was told."""
    told = [s for s in states if s.lease_token is not None and s.parts_done is not None]
    if not told:
        return ""
    return formats.progress(
        sum(state.parts_done or 0 for state in told), sum(state.parts_total or 0 for state in told)
    )


def _state_row(job: Job, state: JobState, now: Any) -> dict[str, Any]:
    here = standing(job, [state], now)
    return {
        "state": state,
        "badge": formats.badge(here.word, here.label),
        "detail": here.detail,
        "progress": _progress([state]) or formats.EMPTY,
        "next": formats.moment(next_run_at([state]) if job.enabled else None, job.timezone),
        "last_status": formats.run_status(state.last_status),
        "last_ended": formats.moment(state.last_ended_at, job.timezone),
        "last_duration": formats.duration(state.last_duration_seconds),
    }


def _run_row(run: Run) -> dict[str, Any]:
    return {
        "run": run,
        "status": formats.run_status(run.status),
        "started": formats.moment(run.started_at),
        "duration": formats.duration(run.duration_seconds),
    }


def _allowed_commands() -> list[str]:
    """The commands that a job of this site may name."""
    allowed = []
    for name in sorted(get_commands()):
        try:
            check_command(name)
        except CommandRefused:
            continue
        allowed.append(name)
    return allowed


@cache
def _zones() -> list[str]:
    return sorted(available_timezones())
