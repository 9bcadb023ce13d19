"""More views of runs: stop, live tail, and download of the output."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

from . import formats, run_output
from .actions import request_stop_of_run, user_id
from .live import live_response

if TYPE_CHECKING:
    from .runs import RunAdmin


_STYLE = re.compile("[0-9;]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class RunViews:
    """The views of one admin of runs."""

    model_admin: RunAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path("<int:pk>/stop/", wrap(require_POST(self.stop)), name=name("stop")),
            path("<int:pk>/tail/", wrap(require_safe(self.tail)), name=name("tail")),
            path("<int:pk>/live/", wrap(require_safe(self.live)), name=name("live")),
            path("<int:pk>/output.txt", wrap(require_safe(self.output)), name=name("output")),
        ]

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a stop of the run."""
        admin = self.model_admin
        run = admin.get_visible(request, pk)
        if not admin.has_stop_permission(request):
            raise PermissionDenied
        if request_stop_of_run(run, user_id=user_id(request)):
            admin.message_user(request, _("Stop requested."), messages.SUCCESS)
        else:
            text = _("Nothing to stop: the run has ended, or a stop is already requested.")
            admin.message_user(request, text, messages.WARNING)
        return HttpResponseRedirect(admin.admin_url(admin.view_name("change"), pk))

    def tail(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: the output after the chunk ``after``, and the status of the run."""
        admin = self.model_admin
        if not admin.has_output_permission(request):
            raise PermissionDenied
        keys = ("after", "line", *Stream.values)
        given = {key: request.GET[key] for key in keys if key in request.GET}
        if not all(v.isascii() and v.isdigit() and len(v) < 19 for v in given.values()):
            return HttpResponseBadRequest("Not a number.", content_type="text/plain")
        after = int(given.pop("after", "0"))
        line = given.pop("line", "")
        ends = {stream: int(end) for stream, end in given.items()} or None
        styles = {s: request.GET.get(f"{run_output.STYLE}{s}", "") for s in Stream.values}
        if not all(_STYLE.fullmatch(style) for style in styles.values()):
            return HttpResponseBadRequest("Not a style.", content_type="text/plain")
        # Read the run before its output: once it has ended, no more output is written.
        run = admin.get_visible(request, pk)
        part = run_output.read_after(
            run, after, ends, newlines=int(line) if line else None, styles=styles
        )
        return JsonResponse(
            {
                "fragments": _fragments(request, admin.changing_context(request, run)),
                "segments": [segment.as_json() for segment in part.segments],
                "last": part.last_id,
                "next": part.cursor,
                "more": part.more,
                "running": run.status == RunStatus.RUNNING,
                "status": run.status,
                "label": str(RunStatus(run.status).label) if run.status in RunStatus.values else "",
            }
        )

    def live(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: what changes beside the output, for a page that does not show its end."""
        admin = self.model_admin
        run = admin.get_visible(request, pk)
        running = run.status == RunStatus.RUNNING
        return live_response(
            request,
            _fragments(request, admin.changing_context(request, run)),
            active=running,
            flags={"running": running},
        )

    def output(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The stored output as a text file; ``?stream=stderr`` for one stream."""
        stream = request.GET.get("stream", "")
        if stream and stream not in Stream.values:
            raise Http404
        if not self.model_admin.has_output_permission(request):
            raise PermissionDenied
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


def _fragments(request: HttpRequest, context: dict[str, object]) -> dict[str, str]:
    return {
        "problem": formats.render("run_problem.html", context, request),
        "facts": formats.render("run_facts.html", context, request),
    }
