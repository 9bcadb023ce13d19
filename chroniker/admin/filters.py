"""Filters of the lists."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.conf import conf
from chroniker.enums import RunStatus
from chroniker.models import Host, Incident, Job, JobState, Maintenance, Notification, Run

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Choices = list[tuple[str, str | _StrPromise]]

_MAX_CHOICES = 200


def _with_state(jobs: QuerySet[Job], condition: Q) -> QuerySet[Job]:
    """Jobs with a state that meets ``condition``, not counting those of retired hosts.

    EXISTS, because a join would list a job once for each placement.
    """
    return jobs.filter(
        Exists(JobState.objects.filter(condition, job=OuterRef("pk"), host_retired=False))
    )


class JobStateFilter(admin.SimpleListFilter):
    """Jobs by what they are doing."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The states."""
        return [
            ("running", _("running")),
            ("blocked", _("blocked")),
            ("due", _("due")),
            ("late", _("late")),
            ("failing", _("failing")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs in the chosen state on any host."""
        match self.value():
            case "running":
                return _with_state(queryset, Q(lease_token__isnull=False))
            case "blocked":
                return _with_state(queryset, Q(lease_token__isnull=True, blocked_reason__gt=""))
            case "due":
                return _with_state(queryset, Q(due_at__lte=utc_now()))
            case "late":
                latest = utc_now() - timedelta(seconds=conf.OVERDUE_SECONDS)
                late = Q(lease_token__isnull=True, blocked_reason="", due_at__lt=latest)
                return _with_state(queryset.filter(enabled=True), late)
            case "failing":
                return _with_state(queryset, Q(consecutive_failures__gt=0))
        return queryset


class LastStatusFilter(admin.SimpleListFilter):
    """Jobs by the status of the last run on any host."""

    title = _("last status")
    parameter_name = "last_status"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """Every status of a run that has ended."""
        return [(s.value, s.label) for s in RunStatus if s is not RunStatus.RUNNING]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs whose last run has the chosen status."""
        value = self.value()
        return _with_state(queryset, Q(last_status=value)) if value else queryset


class CommandFilter(admin.SimpleListFilter):
    """Jobs by command or task."""

    title = _("command or task")
    parameter_name = "command"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The commands and tasks that jobs use."""
        works = Job.objects.order_by("command", "task").values_list("command", "task").distinct()
        names = [command or task for command, task in works[:_MAX_CHOICES]]
        return [(name or "-", name or _("raw command")) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs with the chosen command or task."""
        value = self.value()
        if value == "-":
            return queryset.filter(command="", task="")
        return queryset.filter(Q(command=value) | Q(task=value)) if value else queryset


class HostFilter(admin.SimpleListFilter):
    """Jobs by the host they are pinned to."""

    title = _("host")
    parameter_name = "hostname"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The hosts that jobs name."""
        names = Job.objects.order_by("hostname").values_list("hostname", flat=True).distinct()
        labels = {"": _("any one host"), "*": _("every host")}
        return [(name or "-", labels.get(name, name)) for name in names[:_MAX_CHOICES]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        """The jobs of the chosen host."""
        value = self.value()
        return queryset.filter(hostname="" if value == "-" else value) if value else queryset


class RanOnFilter(admin.SimpleListFilter):
    """Runs by host. The choices come from the host table, which is small."""

    title = _("ran on")
    parameter_name = "ran_on"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The known hosts."""
        return [(name, name) for name in Host.objects.active().values_list("name", flat=True)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Run]) -> QuerySet[Run]:
        """The runs of the chosen host."""
        return queryset.filter(ran_on=self.value()) if self.value() else queryset


class IncidentStateFilter(admin.SimpleListFilter):
    """Incidents by whether they are open, acknowledged or resolved."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The states."""
        return [
            ("open", _("open")),
            ("unacknowledged", _("open, not acknowledged")),
            ("resolved", _("resolved")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        """The incidents in the chosen state."""
        match self.value():
            case "open":
                return queryset.filter(resolved_at=None)
            case "unacknowledged":
                return queryset.filter(resolved_at=None, acknowledged_at=None)
            case "resolved":
                return queryset.exclude(resolved_at=None)
        return queryset


class DeliveryFilter(admin.SimpleListFilter):
    """Notifications by the state of their delivery."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The states."""
        return [
            ("waiting", _("waiting")),
            ("failed", _("waiting for retry")),
            ("sent", _("sent")),
            ("dropped", _("dropped")),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Notification]
    ) -> QuerySet[Notification]:
        """The notifications in the chosen state."""
        match self.value():
            case "waiting":
                return queryset.filter(next_attempt_at__isnull=False)
            case "failed":
                return queryset.filter(next_attempt_at__isnull=False, attempts__gt=0)
            case "sent":
                return queryset.filter(sent_at__isnull=False)
            case "dropped":
                return queryset.filter(dropped_at__isnull=False)
        return queryset


class WindowStateFilter(admin.SimpleListFilter):
    """Maintenance windows by whether they are active, upcoming or ended."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The states."""
        return [("active", _("active")), ("upcoming", _("upcoming")), ("ended", _("ended"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Maintenance]
    ) -> QuerySet[Maintenance]:
        """The windows in the chosen state."""
        now: datetime = utc_now()
        match self.value():
            case "active":
                return queryset.filter(starts_at__lte=now, ends_at__gt=now)
            case "upcoming":
                return queryset.filter(starts_at__gt=now)
            case "ended":
                return queryset.filter(ends_at__lte=now)
        return queryset
