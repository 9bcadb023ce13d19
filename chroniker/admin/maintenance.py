"""The pages of maintenance windows: which jobs are muted or paused, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
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
from .actions import user_id
from .base import BaseAdmin
from .filters import WindowStateFilter
from .plain_relations import unlinked

if TYPE_CHECKING:
    WindowModelForm = ModelForm[Maintenance]
    JobTabularInline = admin.TabularInline[MaintenanceJob, Maintenance]
    JobFormSet = BaseInlineFormSet[MaintenanceJob, Maintenance, ModelForm[MaintenanceJob]]
else:
    WindowModelForm = ModelForm
    JobTabularInline = admin.TabularInline
    JobFormSet = BaseInlineFormSet

_MAX_NAMES = 5


class WindowForm(WindowModelForm):
    """A window, and the confirmation that it covers all jobs."""

    chooses_jobs: ClassVar[bool] = True
    """Whether the page has rows for jobs."""

    all_jobs = forms.BooleanField(
        label=gettext_lazy("all jobs"),
        required=False,
        help_text=gettext_lazy(
            "Confirm that the window covers every job: no alert of any job is sent while it is "
            "active. Not needed if jobs are listed below."
        ),
    )

    class Meta:
        model = Maintenance
        fields = ("reason", "starts_at", "ends_at", "recurrence", "timezone", "pause")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "all_jobs" in self.fields and self.instance.pk is not None:
            self.fields["all_jobs"].initial = not self.instance.entries.exists()

    def clean(self) -> dict[str, Any] | None:
        """Require the confirmation if no jobs can be chosen."""
        cleaned = super().clean()
        if not self.chooses_jobs and not self.cleaned_data.get("all_jobs"):
            self.add_error("all_jobs", unconfirmed())
        return cleaned


def unconfirmed() -> str:
    """What is wrong with a window without jobs."""
    return _(
        "The window lists no jobs, so it would mute all of them. Choose jobs, or confirm with "
        "“all jobs”."
    )


class WindowJobFormSet(JobFormSet):
    """The jobs of a window. A new row without a job is an error."""

    def clean(self) -> None:
        """Require jobs, or the confirmation that the window covers all jobs."""
        super().clean()
        kept = [
            form
            for form in self.forms
            if form not in self.deleted_forms and (form.instance.pk or form.has_changed())
        ]
        if not kept and not self.data.get("all_jobs"):
            raise forms.ValidationError(unconfirmed())

    def add_fields(self, form: ModelForm[MaintenanceJob], index: int | None) -> None:
        """Require a job in new rows. A stored row has none if its job has been deleted."""
        super().add_fields(form, index)
        if "job" in form.fields:
            form.fields["job"].required = form.instance.pk is None


class WindowJobInline(JobTabularInline):
    """The jobs of a window. A window without jobs covers all jobs."""

    model = MaintenanceJob
    formset = WindowJobFormSet
    autocomplete_fields = ("job",)
    extra = 0
    verbose_name = gettext_lazy("job")
    verbose_name_plural = gettext_lazy("jobs (none: the window covers all jobs)")

    def get_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> Any:
        """Link to the jobs if the user may see them."""
        if self.has_add_permission(request, obj) or self.has_change_permission(request, obj):
            return ("job",)
        return unlinked(self, request, ("job",), "job")

    def get_readonly_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> Any:
        """What is not a field of the form."""
        return [name for name in self.get_fields(request, obj) if callable(name)]


class MaintenanceAdmin(BaseAdmin[Maintenance]):
    """Maintenance windows: people create them before the work, and shorten or extend them."""

    list_display = ("title", "state", "starts", "ends", "pause", "job_names", "created_by")
    list_filter = (WindowStateFilter, "pause")
    search_fields = ("reason", "jobs__name")
    list_select_related = ("created_by",)
    empty_text = gettext_lazy(
        "No maintenance windows yet. A window mutes the alerts of its jobs, or keeps them from "
        "starting."
    )
    inlines = (WindowJobInline,)
    form = WindowForm
    fields = (
        "reason", ("starts_at", "ends_at"), ("recurrence", "timezone"), "pause", "all_jobs",
    )  # fmt: skip

    def get_queryset(self, request: HttpRequest) -> QuerySet[Maintenance]:
        """With the jobs, in one more query."""
        return super().get_queryset(request).prefetch_related("entries__job")

    def get_form(
        self,
        request: HttpRequest,
        obj: Maintenance | None = None,
        change: bool = False,
        **kwargs: object,
    ) -> type[ModelForm[Maintenance]]:
        """A form that knows whether the page has rows for jobs."""
        form = super().get_form(request, obj, change, **kwargs)
        form.chooses_jobs = bool(self.get_inline_instances(request, obj))  # type: ignore[attr-defined]
        return form

    def save_model(
        self, request: HttpRequest, obj: Maintenance, form: object, change: object
    ) -> None:
        """Record who created the window."""
        if not change:
            obj.created_by_id = user_id(request)
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
        title = window.reason or _("no reason given")
        return f"{title} ({window.recurrence})" if window.recurrence else title

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
