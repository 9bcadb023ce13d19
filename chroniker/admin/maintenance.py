"""The pages of maintenance windows: which jobs are muted or paused, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.alerting.maintenance import review_muted
from chroniker.models import Maintenance, MaintenanceJob

from . import formats
from .base import BaseAdmin
from .filters import WindowStateFilter

if TYPE_CHECKING:
    JobTabularInline = admin.TabularInline[MaintenanceJob, Maintenance]
    JobFormSet = BaseInlineFormSet[MaintenanceJob, Maintenance, ModelForm[MaintenanceJob]]
else:
    JobTabularInline = admin.TabularInline
    JobFormSet = BaseInlineFormSet

_MAX_NAMES = 5


class WindowJobFormSet(JobFormSet):
    """The jobs of a window. A new row without a job is an error."""

    def add_fields(self, form: ModelForm[MaintenanceJob], index: int | None) -> None:
        """Require a job in new rows. A stored row has none if its job has been deleted."""
        super().add_fields(form, index)
        form.fields["job"].required = form.instance.pk is None


class WindowJobInline(JobTabularInline):
    """The jobs of a window. A window without jobs covers all jobs."""

    model = MaintenanceJob
    formset = WindowJobFormSet
    autocomplete_fields = ("job",)
    extra = 0
    verbose_name = gettext_lazy("job")
    verbose_name_plural = gettext_lazy("jobs (none: the window covers all jobs)")


@admin.register(Maintenance)
class MaintenanceAdmin(BaseAdmin[Maintenance]):
    """Maintenance windows: people create them before the work, and shorten or extend them."""

    list_display = ("title", "state", "starts", "ends", "pause", "job_names", "created_by")
    list_filter = (WindowStateFilter, "pause")
    search_fields = ("reason", "jobs__name")
    list_select_related = ("created_by",)
    inlines = (WindowJobInline,)
    fields = ("reason", ("starts_at", "ends_at"), "pause")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Maintenance]:
        """With the jobs, in one more query."""
        return super().get_queryset(request).prefetch_related("entries__job")

    def save_model(
        self, request: HttpRequest, obj: Maintenance, form: object, change: object
    ) -> None:
        """Record who created the window."""
        if not change:
            obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    def save_related(
        self, request: HttpRequest, form: object, formsets: object, change: object
    ) -> None:
        """Let the next tick review the muted incidents."""
        super().save_related(request, form, formsets, change)
        review_muted(None, utc_now())

    def delete_model(self, request: HttpRequest, obj: Maintenance) -> None:
        """Let the next tick review the muted incidents."""
        super().delete_model(request, obj)
        review_muted(None, utc_now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> None:
        """Let the next tick review the muted incidents."""
        super().delete_queryset(request, queryset)
        review_muted(None, utc_now())

    @admin.display(description=gettext_lazy("reason"), ordering="reason")
    def title(self, window: Maintenance) -> str:
        """The reason."""
        return window.reason or _("no reason given")

    @admin.display(description=gettext_lazy("state"))
    def state(self, window: Maintenance) -> str:
        """Active, upcoming or ended."""
        now = utc_now()
        if window.ends_at <= now:
            return formats.badge("idle", _("ended"))
        if window.starts_at > now:
            return formats.badge("scheduled", _("upcoming"))
        return formats.badge("disabled", _("active"))

    @admin.display(description=gettext_lazy("starts"), ordering="starts_at")
    def starts(self, window: Maintenance) -> str:
        """When it starts."""
        return formats.time_html(window.starts_at)

    @admin.display(description=gettext_lazy("ends"), ordering="ends_at")
    def ends(self, window: Maintenance) -> str:
        """When it ends."""
        return formats.time_html(window.ends_at)

    @admin.display(description=gettext_lazy("jobs"))
    def job_names(self, window: Maintenance) -> str:
        """The names of the first jobs, or that the window covers all jobs."""
        entries = list(window.entries.all())
        if not entries:
            return _("all jobs")
        names = [str(entry) for entry in entries[:_MAX_NAMES]]
        return ", ".join(names) + (" …" if len(entries) > len(names) else "")
