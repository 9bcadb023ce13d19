"""Runs: what happened, and what was written; to read, to download, to delete."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.humanize.templatetags.humanize import intcomma
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import content_disposition_header
from django.utils.text import slugify
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from chroniker.enums import RunStatus, Stream
from chroniker.models import Host, Run

from . import formats, transcript
from .deletion import deletable
from .orders import order_stop_of_run
from .saving import PatientAdmin


class RanOnFilter(admin.SimpleListFilter):
    """By host, from the few rows of the hosts rather than the many of the runs."""

    title = gettext_lazy("ran on")
    parameter_name = "ran_on"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The hosts that tick."""
        return [(name, name) for name in Host.objects.values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        """Those of the chosen host."""
        return queryset.filter(ran_on=self.value()) if self.value() else queryset


@admin.register(Run)
class RunAdmin(PatientAdmin[Run]):
    """Runs are written by the scheduler alone."""

    list_display = (
        "number", "job_name", "outcome", "trigger", "scheduled", "started", "took", "exit", "where",
    )  # fmt: skip
    list_display_links = ("number", "job_name")
    # No date hierarchy: it would need the time zone tables that few MariaDB servers have loaded.
    list_filter = ("status", "trigger", "started_at", "missed_reason", RanOnFilter)
    search_fields = ("job__name", "error")
    search_help_text = gettext_lazy("Name of the job, or words of the error.")
    show_full_result_count = False
    list_per_page = 50
    change_form_template = "chroniker/admin/run.html"
    fieldsets = (
        (None, {"fields": ("job_link", ("outcome", "trigger", "attempt"))}),
        (
            gettext_lazy("When and where"),
            {
                "fields": (
                    ("scheduled", "started", "ended", "took"),
                    ("where", "host_slot", "process"),
                )
            },
        ),
        (
            gettext_lazy("How"),
            {"fields": (("exit", "cpu", "memory"), ("done", "stdout", "stderr", "log"))},
        ),
    )

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker/admin.css"]}

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Also by the job's name: dashboards and alerts know no other, and link here."""
        return lookup == "job__name" or super().lookup_allowed(lookup, value, request)

    # --- who may what ---

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody writes history by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody rewrites it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        """What runs is stopped first; its owner still writes the row."""
        running = obj is not None and obj.status == RunStatus.RUNNING
        return not running and super().has_delete_permission(request, obj)

    def has_stop_permission(self, request: HttpRequest) -> bool:
        """May end what runs."""
        return request.user.has_perm("chroniker.stop_job")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """With their jobs, whose names and zones are shown."""
        return super().get_queryset(request).select_related("job")

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> Any:
        """With why it did not run, or failed, where that is known."""
        first, *others = super().get_fieldsets(request, obj)
        fields = [*first[1]["fields"]]
        if obj is not None and obj.status == RunStatus.MISSED:
            fields.append("missed")
        if obj is not None and obj.error:
            fields.append("failure")
        return [(first[0], {"fields": fields}), *others]

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> tuple[str, ...]:
        """All of them."""
        return (
            "job_link", "outcome", "trigger", "attempt", "missed", "failure", "scheduled",
            "started", "ended", "took", "where", "host_slot", "process", "exit", "cpu", "memory",
            "done", "stdout", "stderr", "log",
        )  # fmt: skip

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Counted instead of loaded: their output may be gigabytes."""
        running = {run.pk for run in objs if run.status == RunStatus.RUNNING}
        return deletable(self, request, objs, running)

    # --- pages beside the list and the run ---

    def get_urls(self) -> list[URLPattern]:
        """Stop, live tail and download."""
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/stop/", wrap(require_POST(self.stop_view)), name="chroniker_run_stop"),
            path("<int:pk>/tail/", wrap(require_safe(self.tail_view)), name="chroniker_run_tail"),
            path(
                "<int:pk>/output.txt",
                wrap(require_safe(self.output_view)),
                name="chroniker_run_output",
            ),
            *super().get_urls(),
        ]

    def stop_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask that the run be stopped."""
        run = self._visible(request, pk)
        if not self.has_stop_permission(request):
            raise PermissionDenied
        assert request.user.pk is not None
        if order_stop_of_run(run, user_id=request.user.pk):
            self.message_user(request, _("The run was asked to stop."), messages.SUCCESS)
        else:
            self.message_user(
                request, _("Nothing to stop: it has ended, or was asked before."), messages.WARNING
            )
        return HttpResponseRedirect(self._url("change", pk))

    def tail_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: what was written after the chunk ``after``, and where the run stands."""
        given = {key: request.GET[key] for key in ("after", *Stream.values) if key in request.GET}
        if not all(v.isascii() and v.isdigit() and len(v) < 19 for v in given.values()):
            return HttpResponseBadRequest("Not a number.", content_type="text/plain")
        after = int(given.pop("after", "0"))
        ends = {stream: int(end) for stream, end in given.items()}
        run = self._visible(request, pk)  # before its output: after its end there comes none
        part = transcript.since(run, after, ends)
        return JsonResponse(
            {
                "segments": [segment.as_json() for segment in part.segments],
                "last": part.last_id,
                "next": part.cursor,
                "more": part.more,
                "running": run.status == RunStatus.RUNNING,
                "status": run.status,
                "label": str(RunStatus(run.status).label) if run.status in RunStatus.values else "",
                "progress": formats.percent(run.parts_done, run.parts_total),
            }
        )

    def output_view(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """All that was kept, as a file of text; ``?stream=stderr`` for one stream."""
        stream = request.GET.get("stream", "")
        if stream and stream not in Stream.values:
            raise Http404
        run = self._visible(request, pk)
        response = StreamingHttpResponse(
            (text.encode("utf-8", "backslashreplace") for text in transcript.lines(run, stream)),
            content_type="text/plain; charset=utf-8",
        )
        parts = [slugify(run.job.name) or "job", f"run-{run.pk}", *([stream] if stream else [])]
        response["Content-Disposition"] = content_disposition_header(True, "-".join(parts) + ".txt")
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Run | None = None,
    ) -> HttpResponse:
        """With the end of the output."""
        assert obj is not None
        running = obj.status == RunStatus.RUNNING
        output = transcript.recent(obj)
        context.update(
            subtitle=f"{obj.job.name}, {obj.pk}",
            output=output,
            tail_url=f"{self._url('tail', obj.pk)}?{output.cursor}",
            shown_kb=transcript.SHOWN // 1000,
            streams=Stream.values,
            running=running,
            may_stop=running and self.has_stop_permission(request),
            stop_url=self._url("stop", obj.pk),
            output_url=self._url("output", obj.pk),
        )
        return super().render_change_form(request, context, add, change, form_url, obj)

    def _visible(self, request: HttpRequest, pk: int) -> Run:
        run = self.get_queryset(request).filter(pk=pk).first()
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        if run is None:
            raise Http404
        return run

    def _url(self, name: str, pk: int) -> str:
        return reverse(f"admin:chroniker_run_{name}", args=[pk], current_app=self.admin_site.name)

    # --- columns and fields ---

    @admin.display(description=gettext_lazy("run"), ordering="id")
    def number(self, run: Run) -> int:
        """Its key, as metrics and mails name it."""
        return run.pk

    @admin.display(description=gettext_lazy("job"), ordering="job__name")
    def job_name(self, run: Run) -> str:
        """Plain: the list links to the run."""
        return run.job.name

    @admin.display(description=gettext_lazy("job"))
    def job_link(self, run: Run) -> str:
        """The job's page."""
        url = reverse(
            "admin:chroniker_job_change", args=[run.job_id], current_app=self.admin_site.name
        )
        return format_html('<a href="{}">{}</a>', url, run.job.name)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def outcome(self, run: Run) -> str:
        """The status, and for what did not run the reason."""
        if run.status == RunStatus.MISSED:
            return format_html(
                "{} {}", formats.run_status(run.status), run.get_missed_reason_display()
            )
        return formats.run_status(run.status)

    @admin.display(description=gettext_lazy("scheduled for"), ordering="scheduled_for")
    def scheduled(self, run: Run) -> str:
        """The slot, in the job's zone."""
        return formats.clock(run.scheduled_for, run.job.timezone)

    @admin.display(description=gettext_lazy("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        """How long ago, and when."""
        return formats.moment(run.started_at, run.job.timezone)

    @admin.display(description=gettext_lazy("ended"))
    def ended(self, run: Run) -> str:
        """How long ago, and when."""
        return formats.moment(run.ended_at, run.job.timezone)

    @admin.display(description=gettext_lazy("duration"), ordering="duration_seconds")
    def took(self, run: Run) -> str:
        """For what runs still: so far."""
        if run.status == RunStatus.RUNNING and run.started_at:
            return formats.duration(max(0.0, (utc_now() - run.started_at).total_seconds())) + " …"
        return formats.duration(run.duration_seconds)

    @admin.display(description=gettext_lazy("exit"), ordering="exit_code")
    def exit(self, run: Run) -> str:
        """The exit code, or the signal that ended it."""
        if run.signal:
            try:
                return f"{signal.Signals(run.signal).name} ({run.signal})"
            except ValueError:
                return _("signal %d") % run.signal
        return formats.EMPTY if run.exit_code is None else str(run.exit_code)

    @admin.display(description=gettext_lazy("ran on"), ordering="ran_on")
    def where(self, run: Run) -> str:
        """The host whose tick ran it."""
        return run.ran_on or run.host or formats.EMPTY

    @admin.display(description=gettext_lazy("host slot"))
    def host_slot(self, run: Run) -> str:
        """The host, where each runs the job by itself."""
        return run.host or _("any one host")

    @admin.display(description=gettext_lazy("process"))
    def process(self, run: Run) -> str:
        """The number of its session's leader, on its host."""
        return formats.EMPTY if run.pid is None else str(run.pid)

    @admin.display(description=gettext_lazy("missed"))
    def missed(self, run: Run) -> str:
        """How many slots this row stands for, and why they were not run."""
        if run.status != RunStatus.MISSED:
            return formats.EMPTY
        return _("%(number)s slots, because of %(reason)s") % {
            "number": intcomma(run.missed_slots),
            "reason": run.get_missed_reason_display(),
        }

    @admin.display(description=gettext_lazy("error"))
    def failure(self, run: Run) -> str:
        """As the runner put it."""
        return run.error or formats.EMPTY

    @admin.display(description=gettext_lazy("CPU time"))
    def cpu(self, run: Run) -> str:
        """Of its whole process tree."""
        return formats.duration(run.cpu_seconds)

    @admin.display(description=gettext_lazy("peak memory"))
    def memory(self, run: Run) -> str:
        """Of its largest process."""
        return formats.EMPTY if run.max_rss_bytes is None else filesizeformat(run.max_rss_bytes)

    @admin.display(description=gettext_lazy("progress"))
    def done(self, run: Run) -> str:
        """Parts done of all."""
        return formats.progress(run.parts_done, run.parts_total)

    @admin.display(description=gettext_lazy("stdout"))
    def stdout(self, run: Run) -> str:
        """How much it wrote, kept or not."""
        return filesizeformat(run.stdout_bytes)

    @admin.display(description=gettext_lazy("stderr"))
    def stderr(self, run: Run) -> str:
        """How much it wrote, kept or not."""
        return filesizeformat(run.stderr_bytes)

    @admin.display(description=gettext_lazy("log"))
    def log(self, run: Run) -> str:
        """How much it wrote, kept or not."""
        return filesizeformat(run.log_bytes)
