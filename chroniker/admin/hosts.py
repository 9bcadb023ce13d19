"""The pages of hosts: which hosts tick, and which are paused."""

from __future__ import annotations

from datetime import timedelta

from django.contrib import admin
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext_lazy as _

from chroniker.models import Host, JobState

from . import formats
from .base import BaseAdmin

SILENT_AFTER = timedelta(minutes=5)
"""The same threshold as in the alert ChronikerHostNotTicking and in the dashboards."""


@admin.register(Host)
class HostAdmin(BaseAdmin[Host]):
    """Hosts register with their first tick; people can only pause them."""

    list_display = ("name", "state", "last_tick", "tick", "running", "version")
    list_filter = ("paused",)
    search_fields = ("name",)
    fields = (
        "name", "paused", "state", "last_tick", "first_tick_at", "tick", "running", "version",
    )  # fmt: skip
    readonly_fields = (
        "name", "state", "last_tick", "first_tick_at", "tick", "running", "version",
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

    def save_model(self, request: HttpRequest, obj: Host, form: object, change: object) -> None:
        """Write ``paused`` only: a tick may write the rest of the row at the same time."""
        Host.objects.filter(pk=obj.pk).update(paused=obj.paused)

    @admin.display(description=_("state"))
    def state(self, host: Host) -> str:
        """Paused, ticking or silent."""
        if host.paused:
            return formats.badge("disabled", _("paused"))
        if host.last_tick_at is None or host.last_tick_at < utc_now() - SILENT_AFTER:
            return formats.badge("lost", _("silent"))
        return formats.badge("succeeded", _("ticking"))

    @admin.display(description=_("last tick"), ordering="last_tick_at")
    def last_tick(self, host: Host) -> str:
        """When the host last ticked."""
        return formats.time_html(host.last_tick_at)

    @admin.display(description=_("tick duration"), ordering="tick_seconds")
    def tick(self, host: Host) -> str:
        """How long the last tick took until its jobs were started."""
        return formats.duration(host.tick_seconds)

    @admin.display(description=_("running jobs"), ordering="running_jobs")
    def running(self, host: Host) -> int:
        """How many runs the host owns now."""
        number: int = host.running_jobs  # type: ignore[attr-defined]
        return number
