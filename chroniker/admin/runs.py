"""The pages of runs: their result and their output, to read, download and delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.enums import RunStatus, Stream
from chroniker.models import Run

from . import run_columns as columns
from . import run_output, run_page, run_search
from .base import BaseAdmin
from .deletion import STILL_RUNNING, DeletionSummary, summarize_deletion
from .filters import RanOnFilter
from .run_list import BoundedPaginator, search_runs
from .run_views import RunViews


class RunAdmin(BaseAdmin[Run]):
    """Only the scheduler writes runs."""

    list_display = (
        columns.number, columns.job_name, columns.status_and_exit, columns.started_by,
        columns.duration,
    )  # fmt: skip
    list_display_links = (columns.number, columns.job_name)
    # No date hierarchy: it needs time zone tables, which few MariaDB servers have loaded.
    list_filter = ("status", "trigger", "started_at", "missed_reason", RanOnFilter)
    search_fields = ("job__name", "error")
    search_help_text = gettext_lazy("Searches the names of jobs; if none matches, the errors.")
    show_full_result_count = False
    paginator = BoundedPaginator
    empty_text = gettext_lazy(
        "No runs yet. They appear here when a job is due, or after “Run now” on its page."
    )
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

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Run], search_term: str
    ) -> tuple[QuerySet[Run], bool]:
        """By the name of the job or, if none matches, by the error."""
        return search_runs(queryset, search_term), False

    def get_deleted_objects(
        self, objs: Sequence[Run] | QuerySet[Run], request: HttpRequest
    ) -> DeletionSummary:
        """Count the rows instead of loading them: their output may be gigabytes."""
        running = {run.pk: str(STILL_RUNNING) for run in objs if run.status == RunStatus.RUNNING}
        return summarize_deletion(self, request, objs, running)

    def get_urls(self) -> list[URLPattern]:
        """Add stop, live tail and download."""
        return [*RunViews(self).urls(), *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Run | None = None,
    ) -> HttpResponse:
        """A page to read instead of a form."""
        assert obj is not None
        may_view_output = self.has_output_permission(request)
        running = obj.status == RunStatus.RUNNING
        context.update(
            self.changing_context(request, obj),
            subtitle="",
            title=_("Run %(number)d of %(job)s") % {"number": obj.pk, "job": obj.job.name},
            run=obj,
            running=running,
            neighbours=run_page.find_neighbours(obj),
            may_view_output=may_view_output,
            may_stop=running and self.has_stop_permission(request),
            may_delete=self.has_delete_permission(request, obj),
            **{f"{view}_url": self.admin_url(self.view_name(view), obj.pk)
               for view in ("stop", "output", "delete", "change")},
        )  # fmt: skip
        if may_view_output:
            stored = sum(cast("dict[str, int]", context["stored"]).values())
            context.update(self._output_context(request, obj, stored))
        if running and not context.get("follows"):
            context["live_url"] = self.admin_url(self.view_name("live"), obj.pk)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def changing_context(self, request: HttpRequest, run: Run) -> dict[str, object]:
        """What the live tail updates beside the output."""
        may_view_output = self.has_output_permission(request)
        job_link = self.link("chroniker_job_page" if self.may_view(request, "job") else "", run.job)
        context = run_page.problem_context(run, may_view_output=may_view_output)
        context.update(
            headline=run_page.headline(run),
            facts=run_page.facts(run, job_link=job_link, now=utc_now()),
        )
        if may_view_output:
            context["stored"] = stored = run_output.stored_bytes(run)
            context["kept"] = run_page.kept_sentences(run, stored)
        return context

    def has_output_permission(self, request: HttpRequest) -> bool:
        """Whether the user may read what runs have written."""
        return request.user.has_perm("chroniker.view_output")

    def _output_context(self, request: HttpRequest, run: Run, stored: int) -> dict[str, object]:
        search = request.GET.get("q", "").strip()[:200]
        after, before = (_chunk_key(request.GET.get(name, "")) for name in ("after", "before"))
        if after is not None:
            output = run_output.read_after(run, after, stored=stored)
        else:
            output = run_output.read_tail(run, before=before, stored=stored)
        follows = run.status == RunStatus.RUNNING and not output.more
        tail_url = self.admin_url(self.view_name("tail"), run.pk)
        return {
            "output": output,
            "last": output.segments[-1] if output.segments else None,
            "follows": follows,
            "tail_url": f"{tail_url}?{output.cursor}",
            "streams": Stream.values,
            "search": search,
            "found": run_search.search_output(run_output.iter_chunks(run), search)
            if search
            else None,
        }


def _chunk_key(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
