"""The pages of runs: their result and their output, to read, download and delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext_lazy

from chroniker.enums import RunStatus, Stream
from chroniker.models import Run

from . import run_columns as columns
from . import run_output
from .base import BaseAdmin
from .deletion import DeletionSummary, summarize_deletion
from .filters import RanOnFilter
from .run_views import RunViews

if TYPE_CHECKING:
    from django.contrib.admin.options import _FieldsetSpec

_FIELDS = (
    "job_link", columns.status, "trigger", "attempt", columns.missed, columns.error,
    columns.scheduled, columns.started, columns.ended, columns.duration, columns.ran_on,
    columns.placement, columns.process_id, columns.exit_status, columns.cpu_time,
    columns.peak_memory, columns.progress, columns.stdout, columns.stderr, columns.log,
)  # fmt: skip


@admin.register(Run)
class RunAdmin(BaseAdmin[Run]):
    """Only the scheduler writes runs."""

    list_display = (
        columns.number, columns.job_name, columns.status, "trigger", columns.scheduled,
        columns.started, columns.duration, columns.exit_status, columns.ran_on,
    )  # fmt: skip
    list_display_links = (columns.number, columns.job_name)
    # No date hierarchy: it needs time zone tables, which few MariaDB servers have loaded.
    list_filter = ("status", "trigger", "started_at", "missed_reason", RanOnFilter)
    search_fields = ("job__name", "error")
    search_help_text = gettext_lazy("Searches the job's name and the error.")
    show_full_result_count = False
    list_per_page = 50
    change_form_template = "chroniker/admin/run.html"

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow ``job__name``: dashboards and alerts link here and know only the name."""
        return lookup == "job__name" or super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Runs cannot be added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """Runs cannot be edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """An active run cannot be deleted: its owner still writes the row."""
        running = obj is not None and obj.status == RunStatus.RUNNING
        return not running and super().has_delete_permission(request, obj)

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """Whether the user may stop runs."""
        return request.user.has_perm("chroniker.stop_job")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """With the jobs, whose names and time zones are shown."""
        return super().get_queryset(request).select_related("job")

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> _FieldsetSpec:
        """Show why the run was missed or failed only if it was."""
        reasons = []
        if obj is not None and obj.status == RunStatus.MISSED:
            reasons.append(columns.missed)
        if obj is not None and obj.error:
            reasons.append(columns.error)
        fieldsets = (
            (None, {"fields": ("job_link", (columns.status, "trigger", "attempt"), *reasons)}),
            (
                gettext_lazy("Times and host"),
                {
                    "fields": (
                        (columns.scheduled, columns.started, columns.ended, columns.duration),
                        (columns.ran_on, columns.placement, columns.process_id),
                    )
                },
            ),
            (
                gettext_lazy("Resources and output"),
                {
                    "fields": (
                        (columns.exit_status, columns.cpu_time, columns.peak_memory),
                        (columns.progress, columns.stdout, columns.stderr, columns.log),
                    )
                },
            ),
        )
        # Django accepts functions as read-only fields; its type stubs do not.
        return cast("_FieldsetSpec", fieldsets)

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> tuple[str, ...]:
        """All fields."""
        return cast("tuple[str, ...]", _FIELDS)

    def get_deleted_objects(
        self, objs: Sequence[Run] | QuerySet[Run], request: HttpRequest
    ) -> DeletionSummary:
        """Count the rows instead of loading them: their output may be gigabytes."""
        running = {run.pk for run in objs if run.status == RunStatus.RUNNING}
        return summarize_deletion(self, request, objs, running)

    def get_urls(self) -> list[URLPattern]:
        """Add stop, live tail and download."""
        return [*RunViews(self, self.has_stop_permission).urls(), *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Run | None = None,
    ) -> HttpResponse:
        """With the end of the output."""
        assert obj is not None
        running = obj.status == RunStatus.RUNNING
        output = run_output.read_tail(obj)
        tail_url = self.admin_url(self.view_name("tail"), obj.pk)
        context.update(
            subtitle=f"{obj.job.name}, {obj.pk}",
            output=output,
            tail_url=f"{tail_url}?{output.cursor}",
            shown_kb=run_output.MAX_SHOWN // 1000,
            streams=Stream.values,
            running=running,
            may_stop=running and self.has_stop_permission(request),
            stop_url=self.admin_url(self.view_name("stop"), obj.pk),
            output_url=self.admin_url(self.view_name("output"), obj.pk),
        )
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=gettext_lazy("job"))
    def job_link(self, run: Run) -> str:
        """A link to the job."""
        return self.link("chroniker_job_change", run.job)
