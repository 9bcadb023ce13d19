"""Maintenance windows: which jobs are muted, which rest, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.alerting.incidents import unmute
from chroniker.models import Maintenance, MaintenanceJob

from . import formats
from .saving import PatientAdmin

if TYPE_CHECKING:
    JobTabularInline = admin.TabularInline[MaintenanceJob, Maintenance]
    JobFormSet = BaseInlineFormSet[MaintenanceJob, Maintenance, ModelForm[MaintenanceJob]]
else:
    JobTabularInline = admin.TabularInline
    JobFormSet = BaseInlineFormSet


class EntriesFormSet(JobFormSet):
    """Each row names a job: one that names none would be a window for nothing."""

    def add_fields(self, form: Any, index: int | None) -> None:
        """A job is needed, though the row of one that was deleted has none."""
        super().add_fields(form, index)
        form.fields["job"].required = form.instance.pk is None


class EntryInline(JobTabularInline):
    """The jobs of a window; without any it is for all."""

    model = MaintenanceJob
    formset = EntriesFormSet
    autocomplete_fields = ("job",)
    extra = 0
    verbose_name = gettext_lazy("job")
    verbose_name_plural = gettext_lazy("jobs (none: all of them)")


class WhenFilter(admin.SimpleListFilter):
    """Now, to come, or over."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The words of the column."""
        return [
            ("active", gettext_lazy("active")),
            ("to_come", gettext_lazy("to come")),
            ("over", gettext_lazy("over")),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Maintenance]
    ) -> QuerySet[Maintenance]:
        """Those."""
        now = utc_now()
        match self.value():
            case "active":
                return queryset.filter(starts_at__lte=now, ends_at__gt=now)
            case "to_come":
                return queryset.filter(starts_at__gt=now)
            case "over":
                return queryset.filter(ends_at__lte=now)
        return queryset


@admin.register(Maintenance)
class MaintenanceAdmin(PatientAdmin[Maintenance]):
    """Made before the work begins, ended early or late as the work goes."""

    list_display = ("title", "state", "starts", "ends", "pause", "for_what", "created_by")
    list_filter = (WhenFilter, "pause")
    search_fields = ("reason", "jobs__name")
    list_select_related = ("created_by",)
    inlines = (EntryInline,)
    fields = ("reason", ("starts_at", "ends_at"), "pause")

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Maintenance]:
        """With the jobs in one more query."""
        return super().get_queryset(request).prefetch_related("entries__job")

    def save_model(self, request: HttpRequest, obj: Maintenance, form: Any, change: bool) -> None:
        """Note who made it."""
        if not change:
            obj.created_by_id = request.user.pk
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Let the next tick look whether it still mutes what it muted."""
        super().save_related(request, form, formsets, change)
        unmute(None, utc_now())

    def delete_model(self, request: HttpRequest, obj: Maintenance) -> None:
        """The same."""
        super().delete_model(request, obj)
        unmute(None, utc_now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> None:
        """The same."""
        super().delete_queryset(request, queryset)
        unmute(None, utc_now())

    @admin.display(description=gettext_lazy("reason"), ordering="reason")
    def title(self, window: Maintenance) -> str:
        """Why."""
        return window.reason or _("no reason given")

    @admin.display(description=gettext_lazy("state"))
    def state(self, window: Maintenance) -> str:
        """Active, to come or over."""
        now = utc_now()
        if window.ends_at <= now:
            return formats.badge("idle", _("over"))
        if window.starts_at > now:
            return formats.badge("scheduled", _("to come"))
        return formats.badge("disabled", _("active"))

    @admin.display(description=gettext_lazy("starts"), ordering="starts_at")
    def starts(self, window: Maintenance) -> str:
        """When."""
        return formats.moment(window.starts_at)

    @admin.display(description=gettext_lazy("ends"), ordering="ends_at")
    def ends(self, window: Maintenance) -> str:
        """When."""
        return formats.moment(window.ends_at)

    @admin.display(description=gettext_lazy("jobs"))
    def for_what(self, window: Maintenance) -> str:
        """Their names, or all."""
        entries = list(window.entries.all())
        if not entries:
            return _("all")
        names = [str(entry) for entry in entries[:5]]
        return ", ".join(names) + (" …" if len(entries) > len(names) else "")
