"""More views of incidents: acknowledge one with a note, and live updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path
from django.utils.timezone import now as utc_now
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from chroniker.models import Incident

from . import formats
from .actions import Acknowledgement, NoteChange, acknowledge_with_note, user_id
from .incident_page import MAX_NOTE, changing_context
from .live import live_response

if TYPE_CHECKING:
    from .incidents import IncidentAdmin

PARTS = ("state", "facts", "timeline", "notified")
"""The parts of the page that change, each with a template."""


@dataclass(frozen=True, slots=True)
class IncidentViews:
    """The views of one admin of incidents."""

    model_admin: IncidentAdmin

    def urls(self) -> list[URLPattern]:
        """The URL patterns of the views."""
        admin = self.model_admin
        wrap, name = admin.admin_site.admin_view, admin.view_name
        return [
            path(
                "<int:pk>/acknowledge/",
                wrap(require_POST(self.acknowledge)),
                name=name("acknowledge"),
            ),
            path("<int:pk>/live/", wrap(require_safe(self.live)), name=name("live")),
        ]

    def acknowledge(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Acknowledge an incident, or change its note."""
        admin = self.model_admin
        incident = admin.get_visible(request, pk)
        if not admin.has_acknowledge_permission(request):
            raise PermissionDenied
        try:
            note = _posted_text(request, "note", max(MAX_NOTE, len(incident.note)))
            shown = _posted_text(request, "shown_note")
        except ValidationError as error:
            admin.message_user(request, " ".join(error.messages), messages.ERROR)
        else:
            result = acknowledge_with_note(
                incident, note=note, shown=shown, now=utc_now(), user_id=user_id(request)
            )
            incident.refresh_from_db(fields=["acknowledged_by"])
            level, text = _describe(result, incident, aware="acknowledged" in request.POST)
            admin.message_user(request, text, level)
        return HttpResponseRedirect(admin.admin_url(admin.view_name("change"), pk))

    def live(self, request: HttpRequest, pk: int) -> HttpResponse:
        """JSON: the parts that change."""
        admin = self.model_admin
        incident = admin.get_visible(request, pk)
        context = changing_context(admin, request, incident)
        fragments = {
            name: formats.render(f"incident_{name}.html", context, request) for name in PARTS
        }
        flags = {"open": incident.is_open}
        return live_response(request, fragments, active=False, flags=flags)


def _posted_text(request: HttpRequest, name: str, max_length: int | None = None) -> str:
    """A text without surrounding blanks. Raises ValidationError if it cannot be stored."""
    field = forms.CharField(required=False, max_length=max_length)
    text: str = field.clean(request.POST.get(name, "").replace("\r\n", "\n"))
    return text


def _describe(
    result: Acknowledgement | None, incident: Incident, *, aware: bool
) -> tuple[int, str]:
    """The level and the text of the message.

    ``aware``: whether the page already said that the incident is acknowledged.
    """
    if result is None:
        return messages.WARNING, _("The incident has already ended.")
    if result.is_first:
        return (
            messages.SUCCESS,
            _("Acknowledged. No more reminders are sent unless it becomes worse."),
        )
    by = str(incident.acknowledged_by or _("a deleted user"))
    known = _("%(user)s has already acknowledged it.") % {"user": by}
    match result.note:
        case NoteChange.ADDED:
            text = _("Somebody else changed the note meanwhile. Yours was added to it.")
        case NoteChange.KEPT:
            return messages.WARNING, _("Somebody else changed the note meanwhile. It was kept.")
        case NoteChange.SAVED:
            text = _("Note saved.")
        case _none:
            text = _("Nothing was changed.")
    return messages.SUCCESS, text if aware else f"{known} {text}"
