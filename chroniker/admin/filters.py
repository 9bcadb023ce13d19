"""By what the list of jobs can be narrowed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.enums import RunStatus
from chroniker.models import Job, JobState

Choices = list[tuple[str, Any]]

_MOST_CHOICES = 200


def _having(jobs: QuerySet[Job], **state: Any) -> QuerySet[Job]:
    """Jobs with such a state. EXISTS, because a join would list a job once for each host."""
    return jobs.filter(Exists(JobState.objects.filter(job=OuterRef("pk"), **state)))


class StateFilter(admin.SimpleListFilter):
    """What it does now."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """The words of the column."""
        return [
            ("running", _("running")),
            ("blocked", _("blocked")),
            ("due", _("due")),
            ("failing", _("failing")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Those that do it."""
        match self.value():
            case "running":
                return _having(queryset, lease_token__isnull=False)
            case "blocked":
                return _having(queryset, lease_token__isnull=True, blocked_reason__gt="")
            case "due":
                return _having(queryset, due_at__lte=utc_now())
            case "failing":
                return _having(queryset, consecutive_failures__gt=0)
        return queryset


class LastStatusFilter(admin.SimpleListFilter):
    """How the last run ended, on any host."""

    title = _("last status")
    parameter_name = "last_status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Every ending."""
        return [(s.value, s.label) for s in RunStatus if s is not RunStatus.RUNNING]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Those that ended so."""
        return _having(queryset, last_status=self.value()) if self.value() else queryset


class CommandFilter(admin.SimpleListFilter):
    """By command."""

    title = _("command")
    parameter_name = "command"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Those in use."""
        names = Job.objects.order_by("command").values_list("command", flat=True).distinct()
        return [(name or "-", name or _("raw command")) for name in names[:_MOST_CHOICES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Those that run it."""
        value = self.value()
        return queryset.filter(command="" if value == "-" else value) if value else queryset


class HostFilter(admin.SimpleListFilter):
    """By the host that a job is meant for."""

    title = _("host")
    parameter_name = "hostname"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        """Those in use."""
        names = Job.objects.order_by("hostname").values_list("hostname", flat=True).distinct()
        words = {"": _("any one host"), "*": _("every host")}
        return [(name or "-", words.get(name, name)) for name in names[:_MOST_CHOICES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """Those meant for it."""
        value = self.value()
        return queryset.filter(hostname="" if value == "-" else value) if value else queryset
