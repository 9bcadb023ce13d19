"""The pages of incidents: read them and acknowledge them."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.enums import IncidentEnd
from chroniker.models import Incident

from . import formats
from .actions import acknowledge_incidents, user_id
from .base import ReadOnlyAdmin
from .filters import IncidentStateFilter
from .incident_page import incident_context
from .incident_views import IncidentViews


class IncidentAdmin(ReadOnlyAdmin[Incident]):
    """What is or was wrong."""

    list_display = (
        "title", "severity_badge", "team", "state", "opened", "resolved", "occurrences",
    )  # fmt: skip
    list_filter = (IncidentStateFilter, "kind", "severity", "team", "opened_at")
    search_fields = ("job__name", "job_name", "summary")
    show_full_result_count = False
    empty_text = gettext_lazy(
        "No incidents yet. One opens when a job fails or does not start in time."
    )
    actions = ("acknowledge",)
    change_form_template = "chroniker/admin/incident.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Incident]:
        """With what the list and the page name."""
        incidents = super().get_queryset(request)
        return incidents.select_related("job", "acknowledged_by", "cause__job")

    def get_urls(self) -> list[URLPattern]:
        """Add acknowledging with a note, and live updates."""
        return [*IncidentViews(self).urls(), *super().get_urls()]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, object],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Incident | None = None,
    ) -> HttpResponse:
        """A page to read instead of a form."""
        assert obj is not None
        context.update(incident_context(self, request, obj), title=obj.subject, subtitle="")
        return super().render_change_form(request, context, add, change, form_url, obj)

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """Whether the user may stop the reminders of incidents."""
        return self.may_act(request)

    @admin.action(
        permissions=["acknowledge"], description=gettext_lazy("Acknowledge: send no more reminders")
    )
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """Acknowledge the selected incidents."""
        number = acknowledge_incidents(queryset, now=utc_now(), user_id=user_id(request))
        text = ngettext("%d incident acknowledged.", "%d incidents acknowledged.", number)
        message = text % number
        if skipped := queryset.count() - number:
            message += " " + ngettext(
                "%d had ended, or somebody else was first.",
                "%d had ended, or somebody else was first.",
                skipped,
            ) % (skipped)
        self.message_user(request, message, messages.SUCCESS if number else messages.INFO)

    @admin.display(description=gettext_lazy("incident"), ordering="job__name")
    def title(self, incident: Incident) -> str:
        """The job, the host, the kind and the summary."""
        return format_html(
            "{}<br><small>{}: {}</small>",
            incident.subject,
            incident.get_kind_display(),
            incident.summary[:120],
        )

    @admin.display(description=gettext_lazy("severity"), ordering="severity")
    def severity_badge(self, incident: Incident) -> str:
        """The severity as a badge."""
        return formats.severity_badge(incident.severity, incident.get_severity_display())

    @admin.display(description=gettext_lazy("state"), ordering="resolved_at")
    def state(self, incident: Incident) -> str:
        """Open, acknowledged or resolved."""
        if not incident.is_open:
            if incident.ended_by in ("", IncidentEnd.RECOVERED):
                return formats.badge("succeeded", _("resolved"))
            return formats.badge("idle", _("closed"))
        if incident.acknowledged_at is not None:
            by = str(incident.acknowledged_by or "")
            return formats.badge("running", _("acknowledged")) + format_html(
                " <small>{}</small>", by
            )
        return formats.badge("failed", _("open"))

    @admin.display(description=gettext_lazy("opened"), ordering="opened_at")
    def opened(self, incident: Incident) -> str:
        """When it opened."""
        return formats.time_html(incident.opened_at)

    @admin.display(description=gettext_lazy("resolved"), ordering="resolved_at")
    def resolved(self, incident: Incident) -> str:
        """When it was resolved."""
        return formats.time_html(incident.resolved_at)
