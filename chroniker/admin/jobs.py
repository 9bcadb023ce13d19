"""The pages of jobs: the list, and the form with the job's states and last runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.db.models import Exists, F, OuterRef, Prefetch, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy

from chroniker.models import Job, JobDependency, JobState, Maintenance

from . import filters, formats, job_actions, job_columns, job_panel
from .deletion import DeletionSummary, summarize_deletion
from .display_state import current_states, describe_job, last_ended
from .job_form import FIELDSETS, JobFormAdmin, allowed_commands, time_zones
from .job_views import JobViews

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

    DependencyTabularInline = admin.TabularInline[JobDependency, Job]
else:
    DependencyTabularInline = admin.TabularInline


class DependencyInline(DependencyTabularInline):
    """The jobs that this job waits for."""

    model = JobDependency
    fk_name = "downstream"
    autocomplete_fields = ("upstream",)
    extra = 0
    verbose_name = gettext_lazy("upstream job")
    verbose_name_plural = gettext_lazy("upstream jobs (this job waits for them)")


@admin.register(Job)
class JobAdmin(JobFormAdmin):
    """People edit the definition; the state is shown next to it and is never part of the form."""

    list_display = (
        job_columns.title, job_columns.state, "last_run", job_columns.next_run,
        job_columns.schedule,
    )  # fmt: skip
    list_filter = (
        filters.JobStateFilter,
        "enabled",
        filters.LastStatusFilter,
        filters.CommandFilter,
        filters.HostFilter,
    )
    search_fields = ("name", "command", "description", "args")
    search_help_text = gettext_lazy("Searches name, command, description and arguments.")
    show_full_result_count = False
    actions = job_actions.ACTIONS
    inlines = (DependencyInline,)
    save_on_top = True
    change_form_template = "chroniker/admin/job.html"
    fieldsets: ClassVar[_FieldsetSpec | None] = FIELDSETS

    class Media:
        js = ("chroniker/schedule-preview.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """With the states in one query, and what the columns sort by."""
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

    def get_urls(self) -> list[URLPattern]:
        """Add run, stop and preview."""
        return [*JobViews(self).urls(), *super().get_urls()]

    def get_deleted_objects(
        self, objs: Sequence[Job] | QuerySet[Job], request: HttpRequest
    ) -> DeletionSummary:
        """Count the rows instead of loading them: a job may have gigabytes of output."""
        running = JobState.objects.filter(
            job__in=[job.pk for job in objs], lease_token__isnull=False
        ).values_list("job", flat=True)
        return summarize_deletion(self, request, objs, set(running))

    @admin.display(description=gettext_lazy("last run"), ordering="latest")
    def last_run(self, job: Job) -> str:
        """The status of the last run, when it ended, and how long it took."""
        state = last_ended(current_states(job))
        if state is None:
            return formats.EMPTY
        run = state.last_run_id
        return formats.render(
            "last_run.html",
            {
                "status": formats.run_status(state.last_status),
                "when": state.last_ended_at and naturaltime(state.last_ended_at),
                "duration": formats.duration(state.last_duration_seconds),
                "url": run and self.admin_url("chroniker_run_change", run),
                "host": state.host,
                "failures": state.consecutive_failures,
            },
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
        """With the states and the last runs of a stored job."""
        context.update(commands=allowed_commands(), zones=time_zones())
        if obj is not None and obj.pk is not None:
            context.update(self.panel_context(request, obj))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def panel_context(self, request: HttpRequest, job: Job) -> dict[str, object]:
        """What the template shows next to the form of a stored job."""
        now = utc_now()
        may_view_runs = request.user.has_perm("chroniker.view_run")
        states = current_states(job)
        return {
            "job": job,
            "states": job_panel.state_rows(job, states, now),
            "display_state": describe_job(job, states, now),
            "runs": job_panel.run_rows(job) if may_view_runs else [],
            "may_view_runs": may_view_runs,
            "may_run": self.has_run_permission(request),
            "may_stop": self.has_stop_permission(request)
            and any(state.lease_token for state in states),
            "run_url": self.admin_url(self.view_name("run"), job.pk),
            "stop_url": self.admin_url(self.view_name("stop"), job.pk),
        }
