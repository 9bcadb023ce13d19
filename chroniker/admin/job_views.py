"""More views of jobs: run, stop, the preview of a schedule, and the help of a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST, require_safe

from chroniker.commands import check_arguments, check_command, command_parser, split_args
from chroniker.exceptions import CommandRefused
from chroniker.models import Job
from chroniker.site_tasks import TaskArguments, check_task_arguments, describe_task, load_task

from .job_actions import run_jobs, stop_jobs
from .job_form import JobFormAdmin, preview_schedule

T = TypeVar("T", list[object], dict[str, object])


@dataclass(frozen=True, slots=True)
class JobViews:
    """The views of one admin of jobs."""

    model_admin: JobFormAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path("<int:pk>/run/", wrap(require_POST(self.run)), name=name("run")),
            path("<int:pk>/stop/", wrap(require_POST(self.stop)), name=name("stop")),
            path("preview/", wrap(require_safe(self.preview)), name=name("preview")),
            path("command-help/", wrap(require_safe(self.command_help)), name=name("command_help")),
            path("task-help/", wrap(require_safe(self.task_help)), name=name("task_help")),
        ]

    def run(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a run of one job, with the arguments in ``args`` if there are any.

        Those of a task are in ``task_args`` and ``task_kwargs``, as JSON.
        """
        job = self.model_admin.get_visible(request, pk)
        if not self.model_admin.has_run_permission(request):
            raise PermissionDenied
        args = None
        if {"args", "task_args", "task_kwargs"} & request.POST.keys():
            # Arguments are part of the definition, so who may not edit it may not choose them.
            if not self.may_choose_args(request, job):
                raise PermissionDenied
            try:
                args = _chosen_args(job, request.POST)
            except CommandRefused as error:
                self.model_admin.message_user(request, str(error), messages.ERROR)
                return self.redirect_to_job(pk)
        run_jobs(self.model_admin, request, [job], args=args)
        return self.redirect_to_job(pk)

    def may_choose_args(self, request: HttpRequest, job: Job) -> bool:
        """Whether the user may run the job with other arguments."""
        admin = self.model_admin
        return (
            admin.has_page
            and admin.has_run_permission(request)
            and admin.has_change_permission(request, job)
        )

    def stop(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request a stop of one job, on each host where it is running."""
        job = self.model_admin.get_visible(request, pk)
        if not self.model_admin.has_stop_permission(request):
            raise PermissionDenied
        stop_jobs(self.model_admin, request, [job])
        return self.redirect_to_job(pk)

    def preview(self, request: HttpRequest) -> HttpResponse:
        """JSON: what the schedule in the query string does. Nothing else is read."""
        self._require_editor(request)
        schedule, zone, name = (request.GET.get(key, "") for key in ("schedule", "zone", "name"))
        return JsonResponse(preview_schedule(schedule, zone, name))

    def command_help(self, request: HttpRequest) -> HttpResponse:
        """JSON: the help of a command that jobs may run, or why there is none."""
        self._require_editor(request)
        name = request.GET.get("command", "")
        try:
            check_command(name)
            return JsonResponse({"help": command_parser(name).format_help()})
        except CommandRefused as error:
            return JsonResponse({"error": str(error)})

    def task_help(self, request: HttpRequest) -> HttpResponse:
        """JSON: signature and description of a task that jobs may run, or why there is none."""
        self._require_editor(request)
        try:
            return JsonResponse({"help": describe_task(load_task(request.GET.get("task", "")))})
        except CommandRefused as error:
            return JsonResponse({"error": str(error)})

    def redirect_to_job(self, pk: int) -> HttpResponse:
        """Back to the page of the job, or to its form if it has none."""
        admin = self.model_admin
        view = "page" if admin.has_page else "change"
        return HttpResponseRedirect(admin.admin_url(admin.view_name(view), pk))

    def _require_editor(self, request: HttpRequest) -> None:
        admin = self.model_admin
        if not (admin.has_add_permission(request) or admin.has_change_permission(request)):
            raise PermissionDenied


def _chosen_args(job: Job, form: Mapping[str, str]) -> str:
    """The arguments that a form has for one run. Raises CommandRefused if they cannot be used."""
    if job.task:
        found = TaskArguments(
            _parse_json(form.get("task_args"), []), _parse_json(form.get("task_kwargs"), {})
        )
        check_task_arguments(load_task(job.task), found)
        return found.dump()
    args = form.get("args", "")
    split_args(args)
    if not job.raw_command:
        check_arguments(job.command, args)
    return args


def _parse_json(text: str | None, empty: T) -> T:
    """Parse what ought to be of the type of ``empty``."""
    try:
        found = json.loads(text) if text and text.strip() else empty
    except ValueError as error:
        raise CommandRefused(f"The arguments are not JSON: {error}.") from error
    if not isinstance(found, type(empty)):
        kind = "a list" if isinstance(empty, list) else "an object"
        raise CommandRefused(f"The arguments must be {kind} in JSON, not {text}.")
    return found
