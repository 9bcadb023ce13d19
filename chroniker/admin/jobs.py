"""The pages of jobs: the list, and the form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import Exists, OuterRef, Prefetch, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.models import Job, JobDependency, JobState, Maintenance
from chroniker.site_tasks import find_tasks

from . import filters, job_actions, job_columns, job_panel
from .deletion import STILL_RUNNING, DeletionSummary, summarize_deletion
from .display_state import current_states, describe_job
from .job_copy import CopiedDependencyForm, copied_dependencies, copied_values
from .job_form import FIELDSETS, JobFormAdmin, allowed_commands, host_names, time_zones
from .job_kinds import kind_annotations, kind_of, load_kinds, own_form
from .job_list import JobChangeList
from .job_page import JobPageViews
from .job_rows import row_of
from .job_views import JobViews
from .outcomes import newest_run_id
from .site_pages import SitePages
from .site_status import load_site_status

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

    DependencyTabularInline = admin.TabularInline[JobDependency, Job]
else:
    DependencyTabularInline = admin.TabularInline


STATE_FIELDS = (
    "job", "host", "host_retired", "due_at", "next_run_at", "retry_at", "restart_at",
    "run_requested_at", "stop_requested_at", "current_run", "lease_token", "lease_host",
    "lease_owner", "blocked_reason", "blocked_detail", "last_run", "last_status", "last_started_at",
    "last_ended_at", "last_duration_seconds", "last_error", "consecutive_failures", "parts_total",
    "parts_done", "progress_at", "runs_total",
)  # fmt: skip
"""What the pages show of a state."""


_COPIED = "_chroniker_copied_job"


class DependencyInline(DependencyTabularInline):
    """The jobs that this job waits for."""

    model = JobDependency
    form = CopiedDependencyForm
    fk_name = "downstream"
    autocomplete_fields = ("upstream",)
    extra = 0
    verbose_name = gettext_lazy("upstream job")
    verbose_name_plural = gettext_lazy("upstream jobs (this job waits for them)")

    def get_extra(self, request: HttpRequest, obj: Job | None = None, **kwargs: object) -> int:
        """One row for each dependency of the job that is duplicated."""
        if obj is not None or not request.GET.get("copy"):
            return self.extra
        admin_of_jobs = self.admin_site.get_model_admin(Job)
        assert isinstance(admin_of_jobs, JobAdmin)
        source = admin_of_jobs.copied_job(request)
        return len(copied_dependencies(source)) if source else self.extra


class JobAdmin(JobFormAdmin):
    """People edit the definition; the state is shown next to it and is never part of the form."""

    list_display = (
        job_columns.title, job_columns.state, "last_runs", job_columns.next_run_and_schedule,
    )  # fmt: skip
    list_filter = (
        filters.JobStateFilter,
        "enabled",
        filters.LastStatusFilter,
        filters.CommandFilter,
        filters.HostFilter,
    )
    search_fields = ("name", "command", "task", "description", "args")
    search_help_text = gettext_lazy(
        "Searches name, command, task, description and the arguments of commands."
    )
    show_full_result_count = False
    empty_text = gettext_lazy(
        "No jobs yet. Add the first one: a command or a task, its arguments and a schedule."
    )
    actions = job_actions.ACTIONS
    inlines = (DependencyInline,)
    save_on_top = True
    change_form_template = "chroniker/admin/job.html"
    has_page = True
    fieldsets: ClassVar[_FieldsetSpec | None] = FIELDSETS

    class Media:
        js = ("chroniker/schedule-preview.js", "chroniker/command-help.js")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """With the states in one query."""
        states = JobState.objects.only(*STATE_FIELDS).order_by("host")
        jobs = super().get_queryset(request)
        if self.has_page:
            jobs = jobs.annotate(outcomes_from=newest_run_id())
        muted = Maintenance.objects.active(utc_now()).covering(OuterRef("pk"))
        return jobs.prefetch_related(Prefetch("states", states)).annotate(is_muted=Exists(muted))

    def get_changelist(self, request: HttpRequest, **kwargs: object) -> type[ChangeList]:
        """The list that links to the page of a job."""
        return JobChangeList if self.has_page else super().get_changelist(request, **kwargs)

    def get_urls(self) -> list[URLPattern]:
        """Add run, stop and preview, and the pages to read."""
        pages = [*SitePages(self).urls(), *JobPageViews(self).urls()] if self.has_page else []
        return [*pages, *JobViews(self).urls(), *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, object] | None = None
    ) -> HttpResponse:
        """With live updates of the rows that are visible."""
        context = dict(extra_context or {})
        if self.has_page:
            context.update(live_url=self.admin_url(self.view_name("live")), live_rows=True)
        return super().changelist_view(request, context)

    def get_deleted_objects(
        self, objs: Sequence[Job] | QuerySet[Job], request: HttpRequest
    ) -> DeletionSummary:
        """Count the rows instead of loading them: a job may have gigabytes of output."""
        running = JobState.objects.filter(
            job__in=[job.pk for job in objs], lease_token__isnull=False
        ).values_list("job", flat=True)
        kept: dict[int, str] = dict.fromkeys(running, str(STILL_RUNNING))
        load_kinds(objs)
        for job in objs:
            kind = kind_of(job)
            if kind not in (None, self.model):
                kept[job.pk] = _("it is a %(kind)s; delete it on its own page") % {
                    "kind": kind._meta.verbose_name
                }
        return summarize_deletion(self, request, objs, kept)

    @admin.display(description=gettext_lazy("last runs"), ordering=job_columns.last_started())
    def last_runs(self, job: Job) -> str:
        """How the last runs ended, and when the last one ended and how long it took."""
        row = row_of(job)
        return format_html(
            '<div data-live="job-{0}-outcomes">{1}</div><div data-live="job-{0}-last">{2}</div>',
            job.pk,
            row.outcomes_html(),
            row.last_run_html(),
        )

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Job | None = None,
    ) -> HttpResponse:
        """With the states and the last runs of a stored job; or the form of its own that it has."""
        if obj is not None and obj.pk is not None and (own := own_form(self, request, obj)):
            return HttpResponseRedirect(own[0])
        context.update(
            commands=allowed_commands(), tasks=list(find_tasks().tasks), zones=time_zones(),
            hosts=host_names(request),
        )  # fmt: skip
        if obj is not None and obj.pk is not None:
            context.update(self.panel_context(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def panel_context(self, request: HttpRequest, job: Job) -> dict[str, object]:
        """What the template shows next to the form of a stored job."""
        may_run = self.has_run_permission(request)
        context: dict[str, object] = {
            "job": job,
            "may_run": may_run,
            "may_save_and_run": may_run and self.has_change_permission(request, job),
            "run_url": self.admin_url(self.view_name("run"), job.pk),
            "stop_url": self.admin_url(self.view_name("stop"), job.pk),
        }
        if self.has_page:
            return {**context, "page_url": self.admin_url(self.view_name("page"), job.pk)}
        now = utc_now()
        states = current_states(job)
        may_view_runs = self.may_view(request, "run")
        return {
            **context,
            "shows_state": True,
            "states": job_panel.state_rows(job, states, now),
            "display_state": describe_job(job, states, now, load_site_status(request)),
            "runs": job_panel.run_rows(job_panel.last_runs(job)) if may_view_runs else [],
            "may_view_runs": may_view_runs,
            "may_stop": self.has_stop_permission(request)
            and any(state.lease_token for state in states),
        }

    def response_change(self, request: HttpRequest, obj: Job) -> HttpResponse:
        """Run the job after "Save and run now", so that the button never loses an edit."""
        if "_run" not in request.POST or not self.has_run_permission(request):
            return super().response_change(request, obj)
        self.message_user(request, _("The job was saved."), messages.SUCCESS)
        job_actions.run_jobs(self, request, [obj])
        return JobViews(self).redirect_to_job(obj.pk)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """The values of the job that is duplicated (``?copy=`` its key)."""
        source = self.copied_job(request)
        return copied_values(source) if source else super().get_changeform_initial_data(request)

    def copied_job(self, request: HttpRequest) -> Job | None:
        """The job to duplicate, if the user may see it and could have defined it."""
        if not hasattr(request, _COPIED):  # the form and its rows ask for it
            setattr(request, _COPIED, self._find_copied_job(request))
        job: Job | None = getattr(request, _COPIED)
        return job

    def _find_copied_job(self, request: HttpRequest) -> Job | None:
        key = request.GET.get("copy", "")
        if not (self.has_page and key.isascii() and key.isdigit() and len(key) < 19):
            return None
        jobs = self.get_queryset(request).prefetch_related(None).annotate(**kind_annotations())
        job = jobs.filter(pk=int(key)).first()
        visible = job is not None and self.has_view_or_change_permission(request, job)
        return job if visible and self.may_edit(request, job) else None

    def get_formset_kwargs(
        self, request: HttpRequest, obj: Job | None, inline: Any, prefix: str
    ) -> dict[str, Any]:
        """With the dependencies of the job that is duplicated."""
        arguments: dict[str, Any] = super().get_formset_kwargs(
            request, cast("Job", obj), inline, prefix
        )
        if isinstance(inline, DependencyInline) and (obj is None or obj.pk is None):
            source = self.copied_job(request)
            if source is not None:
                arguments["initial"] = copied_dependencies(source)
        return arguments
