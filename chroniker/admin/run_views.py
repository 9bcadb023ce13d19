"""More views of runs: stop, live tail, and download of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib import messages
from django.core.exceptions import PermissionDenied
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
from django.urls import URLPattern, path
from django.utils.http import content_disposition_header
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from chroniker.enums import RunStatus, Stream
from chroniker.models import Run

from . import formats, run_output
from .actions import request_stop_of_run
from .base import BaseAdmin


@dataclass(frozen=True, slots=True)
class RunViews:
    """The views of one admin of runs."""

    model_admin: BaseAdmin[Run]
    may_stop: Callable[[HttpRequest], bool]

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path("<int:pk>/stop/", wrap(require_POST(self.stop)), name=name("stop")),
            path("<int:pk>/tail/", wrap(require_safe(self.tail)), name=name("tail")),
            path("<int:pk>/output.txt", wrap(require_safe(self.output)), name=name("output")),
        ]

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a stop of the run."""
        admin = self.model_admin
        run = admin.get_visible(request, pk)
        if not self.may_stop(request):
            raise PermissionDenied
        assert request.user.pk is not None
        if request_stop_of_run(run, user_id=request.user.pk):
            admin.message_user(request, _("Stop requested."), messages.SUCCESS)
        else:
            text = _("Nothing to stop: the run has ended, or a stop is already requested.")
            admin.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(admin.admin_url(admin.view_name("change"), pk))

    def tail(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: the output after the chunk ``after``, and the status of the run."""
        given = {key: request.GET[key] for key in ("after", *Stream.values) if key in request.GET}
        if not all(v.isascii() and v.isdigit() and len(v) < 19 for v in given.values()):
            return HttpResponseBadRequest("Not a number.", content_type="text/plain")
        after = int(given.pop("after", "0"))
        ends = {stream: int(end) for stream, end in given.items()}
        # Read the run before its output: once it has ended, no more output is written.
        run = self.model_admin.get_visible(request, pk)
        part = run_output.read_after(run, after, ends)
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

    def output(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The stored output as a text file; ``?stream=stderr`` for one stream."""
        stream = request.GET.get("stream", "")
        if stream and stream not in Stream.values:
            raise Http404
        run = self.model_admin.get_visible(request, pk)
        texts = run_output.iter_text(run, stream)
        response = StreamingHttpResponse(
            (text.encode("utf-8", "backslashreplace") for text in texts),
            content_type="text/plain; charset=utf-8",
        )
        parts = [slugify(run.job.name) or "job", f"run-{run.pk}", *([stream] if stream else [])]
        response["Content-Disposition"] = content_disposition_header(True, "-".join(parts) + ".txt")
        response["X-Content-Type-Options"] = "nosniff"
        return response
