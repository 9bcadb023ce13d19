"""The pages of hosts: which hosts tick, pausing one, retiring one that is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.exceptions import HostBusy
from chroniker.models import Host, JobState

from . import formats
from .actions import retire_host_by_hand, user_id
from .base import BaseAdmin
from .site_status import SILENT_AFTER

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    Choices = list[tuple[str, str | _StrPromise]]


class HostStateFilter(admin.SimpleListFilter):
    """Active hosts, or also retired ones."""

    title = gettext_lazy("retired")
    parameter_name = "retired"

    def lookups(self, request: HttpRequest, model_admin: object) -> Choices:
        """The choices beside the default, which is the active hosts."""
        return [("yes", gettext_lazy("Retired"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Host]) -> QuerySet[Host]:
        """Active hosts unless retired ones are asked for."""
        return queryset.filter(retired_at__isnull=self.value() != "yes")


class HostAdmin(BaseAdmin[Host]):
    """Hosts register with their first tick; people can only pause them."""

    list_display = ("name", "state", "last_tick", "tick", "running", "version")
    list_filter = (HostStateFilter, "paused")
    actions = ("retire",)
    empty_text = gettext_lazy("No hosts yet. A host registers itself with its first tick.")
    search_fields = ("name",)
    fields = (
        "name", "paused", "state", "last_tick", "first_tick_at", "retired_at", "tick", "running",
        "version",
    )  # fmt: skip
    readonly_fields = (
        "name", "state", "last_tick", "first_tick_at", "retired_at", "tick", "running", "version",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Host]:
        """With the number of runs each host owns."""
        owned = (
            JobState.objects.leased_on(OuterRef("name"))  # type: ignore[arg-type]
            .order_by()
            .values("lease_host")
            .annotate(number=Count("pk"))
            .values("number")
        )
        return (
            super()
            .get_queryset(request)
            .annotate(running_jobs=Coalesce(Subquery(owned, output_field=IntegerField()), 0))
        )

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Hosts cannot be added by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Nobody deletes hosts by hand: retire them, which closes their incidents as well."""
        return False

    def has_retire_permission(self, request: HttpRequest) -> bool:
        """Whether the user may retire hosts."""
        return request.user.has_perm("chroniker.retire_host")

    @admin.action(
        permissions=["retire"], description=gettext_lazy("Retire: leave lists, metrics and alerts")
    )
    def retire(self, request: HttpRequest, queryset: QuerySet[Host]) -> None:
        """Retire the selected hosts."""
        from chroniker.engine.retirement import retirement_warnings  # imports the engine

        number = 0
        for host in Host.objects.filter(pk__in=queryset.values_list("pk", flat=True)):
            try:
                number += retire_host_by_hand(host, now=utc_now(), user_id=user_id(request))
            except HostBusy as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            for warning in retirement_warnings(host, utc_now()):
                self.message_user(request, warning, messages.WARNING)
        text = ngettext("%d host retired.", "%d hosts retired.", number)
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)

    def save_model(self, request: HttpRequest, obj: Host, form: object, change: object) -> None:
        """Write ``paused`` only: a tick may write the rest of the row at the same time."""
        Host.objects.filter(pk=obj.pk).update(paused=obj.paused)

    @admin.display(description=gettext_lazy("state"))
    def state(self, host: Host) -> str:
        """Retired, paused, ticking or silent."""
        if host.retired_at is not None:
            return formats.badge("disabled", _("retired"))
        if host.paused:
            return formats.badge("disabled", _("paused"))
        if host.last_tick_at is None or host.last_tick_at < utc_now() - SILENT_AFTER:
            return formats.badge("lost", _("silent"))
        return formats.badge("succeeded", _("ticking"))

    @admin.display(description=gettext_lazy("last tick"), ordering="last_tick_at")
    def last_tick(self, host: Host) -> str:
        """When the host last ticked."""
        return formats.time_html(host.last_tick_at)

    @admin.display(description=gettext_lazy("tick duration"), ordering="tick_seconds")
    def tick(self, host: Host) -> str:
        """How long the last tick took until its jobs were started."""
        return formats.duration(host.tick_seconds)

    @admin.display(description=gettext_lazy("running jobs"), ordering="running_jobs")
    def running(self, host: Host) -> int:
        """How many runs the host owns now."""
        number: int = host.running_jobs  # type: ignore[attr-defined]
        return number
