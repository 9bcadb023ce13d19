"""Incidents and their notifications: to read, to acknowledge, to send again. And digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.models import Digest, Incident, Notification

from . import formats
from .orders import acknowledge, send_again
from .saving import PatientAdmin

if TYPE_CHECKING:
    DigestModelForm = forms.ModelForm[Digest]
else:
    DigestModelForm = forms.ModelForm

SEVERITY_WORDS = {"critical": "failed", "warning": "missed", "info": "idle"}
"""Which of the badges of runs a severity looks like."""


class ReadOnly(PatientAdmin[Any]):
    """Rows that only the scheduler writes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds them by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nor changes them, but by the actions."""
        return False

    def _may_act(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"chroniker.change_{self.opts.model_name}")

    def _link(self, view: str, row: Any) -> str:
        if row is None:
            return formats.EMPTY
        url = reverse(f"admin:{view}", args=[row.pk], current_app=self.admin_site.name)
        return format_html('<a href="{}">{}</a>', url, row)


class OpenFilter(admin.SimpleListFilter):
    """Open or over."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The words of the column."""
        return [
            ("open", gettext_lazy("open")),
            ("unacknowledged", gettext_lazy("open, not acknowledged")),
            ("over", gettext_lazy("over")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        """Those."""
        match self.value():
            case "open":
                return queryset.filter(resolved_at=None)
            case "unacknowledged":
                return queryset.filter(resolved_at=None, acknowledged_at=None)
            case "over":
                return queryset.exclude(resolved_at=None)
        return queryset


@admin.register(Incident)
class IncidentAdmin(ReadOnly):
    """What is or was wrong."""

    list_display = ("title", "grade", "state", "opened", "ended", "occurrences", "told")
    list_filter = (OpenFilter, "kind", "severity", "opened_at")
    search_fields = ("job__name", "summary")
    show_full_result_count = False
    list_select_related = ("job", "acknowledged_by")
    actions = ("acknowledge",)
    fields = (
        "job_link", "host", "kind", "grade", "state", "summary", "opened", "last", "occurrences",
        "ended", "resolution", "first", "latest", "told", "acknowledged_at", "acknowledged_by",
    )  # fmt: skip
    readonly_fields = fields

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker/admin.css"]}

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """May stop the reminders of an incident."""
        return self._may_act(request)

    @admin.action(
        permissions=["acknowledge"], description=gettext_lazy("Acknowledge: no more reminders")
    )
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """Somebody looks after them."""
        number = acknowledge(queryset, now=utc_now(), user_id=int(request.user.pk or 0))
        text = ngettext("%d incident was acknowledged.", "%d incidents were acknowledged.", number)
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)

    @admin.display(description=gettext_lazy("incident"), ordering="job__name")
    def title(self, incident: Incident) -> str:
        """Which job, and what."""
        return format_html(
            "{}<br><small>{}: {}</small>",
            incident.job.name + (f" ({incident.host})" if incident.host else ""),
            incident.get_kind_display(),
            incident.summary[:120],
        )

    @admin.display(description=gettext_lazy("severity"), ordering="severity")
    def grade(self, incident: Incident) -> str:
        """As a badge."""
        word = SEVERITY_WORDS.get(incident.severity, "idle")
        return formats.badge(word, incident.get_severity_display())

    @admin.display(description=gettext_lazy("state"), ordering="resolved_at")
    def state(self, incident: Incident) -> str:
        """Open, acknowledged or over."""
        if not incident.is_open:
            return formats.badge("succeeded", _("over"))
        if incident.acknowledged_at is not None:
            by = str(incident.acknowledged_by or "")
            return formats.badge("running", _("acknowledged")) + format_html(
                " <small>{}</small>", by
            )
        return formats.badge("failed", _("open"))

    @admin.display(description=gettext_lazy("told"))
    def told(self, incident: Incident) -> str:
        """Why nobody was told, if nobody was."""
        if incident.muted:
            return _("no: muted")
        return _("no: flapping") if incident.flapping else _("yes")

    @admin.display(description=gettext_lazy("opened"), ordering="opened_at")
    def opened(self, incident: Incident) -> str:
        """When."""
        return formats.moment(incident.opened_at)

    @admin.display(description=gettext_lazy("ended"), ordering="resolved_at")
    def ended(self, incident: Incident) -> str:
        """When."""
        return formats.moment(incident.resolved_at)

    @admin.display(description=gettext_lazy("last seen"))
    def last(self, incident: Incident) -> str:
        """When."""
        return formats.moment(incident.last_seen_at)

    @admin.display(description=gettext_lazy("job"))
    def job_link(self, incident: Incident) -> str:
        """The job's page."""
        return self._link("chroniker_job_change", incident.job)

    @admin.display(description=gettext_lazy("first run"))
    def first(self, incident: Incident) -> str:
        """The run that opened it."""
        return self._link("chroniker_run_change", incident.first_run)

    @admin.display(description=gettext_lazy("last run"))
    def latest(self, incident: Incident) -> str:
        """The run that was seen last."""
        return self._link("chroniker_run_change", incident.last_run)


class DeliveryFilter(admin.SimpleListFilter):
    """Sent or not."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """The words of the column."""
        return [
            ("waiting", gettext_lazy("waiting")),
            ("failed", gettext_lazy("failed, waiting")),
            ("sent", gettext_lazy("sent")),
            ("dropped", gettext_lazy("given up")),
        ]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Notification]
    ) -> QuerySet[Notification]:
        """Those."""
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


@admin.register(Notification)
class NotificationAdmin(ReadOnly):
    """The outbox."""

    list_display = ("number", "event", "about", "recipient", "channel", "state", "made", "attempts")
    list_display_links = ("number", "event")
    list_filter = (DeliveryFilter, "event", "created_at")
    search_fields = ("job__name", "recipient", "last_error")
    show_full_result_count = False
    list_select_related = ("job",)
    actions = ("retry_now",)
    fields = (
        "event", "about", "incident", "recipient", "channel", "state", "made", "attempts",
        "next_attempt_at", "last_error", "sent_at", "dropped_at",
    )  # fmt: skip
    readonly_fields = fields

    class Media:
        css: ClassVar[Any] = {"all": ["chroniker/admin.css"]}

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """May have something sent that waits or was given up."""
        return self._may_act(request)

    @admin.action(permissions=["retry"], description=gettext_lazy("Retry now"))
    def retry_now(self, request: HttpRequest, queryset: QuerySet[Notification]) -> None:
        """With the next tick. What was sent is not sent again."""
        number = send_again(queryset, now=utc_now(), user_id=int(request.user.pk or 0))
        text = ngettext(
            "The next tick sends %d notification.", "The next tick sends %d notifications.", number
        )
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)

    @admin.display(description=gettext_lazy("number"), ordering="pk")
    def number(self, notification: Notification) -> int:
        """The primary key."""
        return notification.pk

    @admin.display(description=gettext_lazy("job"), ordering="job__name")
    def about(self, notification: Notification) -> str:
        """The job's name."""
        return notification.job.name if notification.job else formats.EMPTY

    @admin.display(description=gettext_lazy("state"))
    def state(self, notification: Notification) -> str:
        """Sent, waiting, given up."""
        if notification.sent_at is not None:
            return formats.badge("succeeded", _("sent"))
        if notification.dropped_at is not None:
            return formats.badge("missed", _("given up"))
        return formats.badge("failed" if notification.attempts else "due", _("waiting"))

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def made(self, notification: Notification) -> str:
        """When."""
        return formats.moment(notification.created_at)


class DigestForm(DigestModelForm):
    """With a zone that there is."""

    class Meta:
        model = Digest
        fields = ("user", "hour", "timezone", "only")

    def clean_timezone(self) -> str:
        """Refuse what is no IANA name."""
        name: str = self.cleaned_data["timezone"]
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError) as error:
            raise forms.ValidationError(_("There is no such time zone.")) from error
        return name


@admin.register(Digest)
class DigestAdmin(PatientAdmin[Digest]):
    """Who gets the incidents of a day in one mail."""

    form = DigestForm
    list_display = ("user", "hour", "timezone", "only", "next_at")
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    search_fields = ("=user__pk",)

    def save_model(self, request: HttpRequest, obj: Digest, form: Any, change: bool) -> None:
        """Let the next tick compute when it is due."""
        obj.next_at = None
        super().save_model(request, obj, form, change)
