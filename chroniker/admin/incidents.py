"""The pages of incidents: read them and acknowledge them."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from chroniker.models import Incident

from . import formats
from .actions import acknowledge_incidents
from .base import ReadOnlyAdmin
from .filters import IncidentStateFilter

SEVERITY_BADGES = {"critical": "failed", "warning": "missed", "info": "idle"}
"""Severity: the run status whose badge has the same colour."""


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin[Incident]):
    """What is or was wrong."""

    list_display = (
        "title", "severity_badge", "state", "opened", "resolved", "occurrences", "notified",
    )  # fmt: skip
    list_filter = (IncidentStateFilter, "kind", "severity", "opened_at")
    search_fields = ("job__name", "summary")
    show_full_result_count = False
    list_select_related = ("job", "acknowledged_by")
    actions = ("acknowledge",)
    fields = (
        "job_link", "host", "kind", "severity_badge", "state", "summary", "opened", "last_seen",
        "occurrences", "resolved", "resolution", "first_run_link", "last_run_link", "notified",
        "acknowledged_at", "acknowledged_by",
    )  # fmt: skip
    readonly_fields = fields

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """Whether the user may stop the reminders of incidents."""
        return self.may_act(request)

    @admin.action(
        permissions=["acknowledge"], description=gettext_lazy("Acknowledge: send no more reminders")
    )
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        """Acknowledge the selected incidents."""
        number = acknowledge_incidents(queryset, now=utc_now(), user_id=request.user.pk)
        text = ngettext("%d incident acknowledged.", "%d incidents acknowledged.", number)
        self.message_user(request, text % number, messages.SUCCESS if number else messages.INFO)

    @admin.display(description=gettext_lazy("incident"), ordering="job__name")
    def title(self, incident: Incident) -> str:
        """The job, the host, the kind and the summary."""
        return format_html(
            "{}<br><small>{}: {}</small>",
            incident.job.name + (f" ({incident.host})" if incident.host else ""),
            incident.get_kind_display(),
            incident.summary[:120],
        )

    @admin.display(description=gettext_lazy("severity"), ordering="severity")
    def severity_badge(self, incident: Incident) -> str:
        """The severity as a badge."""
        name = SEVERITY_BADGES.get(incident.severity, "idle")
        return formats.badge(name, incident.get_severity_display())

    @admin.display(description=gettext_lazy("state"), ordering="resolved_at")
    def state(self, incident: Incident) -> str:
        """Open, acknowledged or resolved."""
        if not incident.is_open:
            return formats.badge("succeeded", _("resolved"))
        if incident.acknowledged_at is not None:
            by = str(incident.acknowledged_by or "")
            return formats.badge("running", _("acknowledged")) + format_html(
                " <small>{}</small>", by
            )
        return formats.badge("failed", _("open"))

    @admin.display(description=gettext_lazy("notified"))
    def notified(self, incident: Incident) -> str:
        """Whether notifications are sent, and if not, why."""
        if incident.muted:
            return _("no, muted")
        return _("no, flapping") if incident.flapping else _("yes")

    @admin.display(description=gettext_lazy("opened"), ordering="opened_at")
    def opened(self, incident: Incident) -> str:
        """When it opened."""
        return formats.time_html(incident.opened_at)

    @admin.display(description=gettext_lazy("resolved"), ordering="resolved_at")
    def resolved(self, incident: Incident) -> str:
        """When it was resolved."""
        return formats.time_html(incident.resolved_at)

    @admin.display(description=gettext_lazy("last seen"))
    def last_seen(self, incident: Incident) -> str:
        """When it was last seen."""
        return formats.time_html(incident.last_seen_at)

    @admin.display(description=gettext_lazy("job"))
    def job_link(self, incident: Incident) -> str:
        """A link to the job."""
        return self.link("chroniker_job_change", incident.job)

    @admin.display(description=gettext_lazy("first run"))
    def first_run_link(self, incident: Incident) -> str:
        """A link to the run that opened it."""
        return self.link("chroniker_run_change", incident.first_run)

    @admin.display(description=gettext_lazy("last run"))
    def last_run_link(self, incident: Incident) -> str:
        """A link to the run in which it was last seen."""
        return self.link("chroniker_run_change", incident.last_run)
