"""The pages of badges: who has one, its address, and its revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.admin import formats
from chroniker.admin.base import BaseAdmin
from chroniker.alerting.links import site_url
from chroniker_monitors.models import Badge

if TYPE_CHECKING:
    _Form = forms.ModelForm[Badge]
else:
    _Form = forms.ModelForm


class BadgeForm(_Form):
    """The job of a new badge."""

    class Meta:
        model = Badge
        fields = ("job",)
        help_texts = {
            "job": gettext_lazy(
                "A job or monitor. Whoever gets the address sees its name and one word for its "
                "state, without signing in."
            )
        }
        error_messages = {"job": {"unique": gettext_lazy("This job has a badge already.")}}


class BadgeAdmin(BaseAdmin[Badge]):
    """Badges are created and revoked, and never changed."""

    belongs_to_job = True
    list_display = ("job_name", "address_text", "created")
    list_display_links = ("job_name",)
    list_select_related = ("job",)
    search_fields = ("job__name",)
    empty_text = gettext_lazy(
        "No badges. A badge shows the state of one job or monitor to whoever has its address; "
        "there is none until you add it."
    )
    form = BadgeForm
    autocomplete_fields = ("job",)
    readonly_fields = ("job_name", "picture", "address_text", "json_address", "markdown", "created")

    def get_fields(self, request: HttpRequest, obj: Badge | None = None) -> tuple[str, ...]:
        """The job of a new badge, the addresses of an existing one."""
        return ("job",) if obj is None else self.readonly_fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Badge]:
        """With the jobs."""
        return super().get_queryset(request).select_related("job")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        """Only for those who may see jobs: the form finds them by name."""
        return super().has_add_permission(request) and request.user.has_perm("chroniker.view_job")

    def has_change_permission(self, request: HttpRequest, obj: Badge | None = None) -> bool:
        """A badge has nothing to edit: another address is another badge."""
        return False

    @admin.display(description=gettext_lazy("job"), ordering="job__name")
    def job_name(self, badge: Badge) -> str:
        """The name that the badge shows."""
        return badge.job.name

    @admin.display(description=gettext_lazy("badge"))
    def picture(self, badge: Badge) -> str:
        """The badge itself."""
        return format_html('<img src="{}" alt="{}">', _path(badge, "svg"), badge.job.name)

    @admin.display(description=gettext_lazy("address"))
    def address_text(self, badge: Badge) -> str:
        """The address of the image."""
        return _link(badge, "svg")

    @admin.display(description=gettext_lazy("address of the JSON"))
    def json_address(self, badge: Badge) -> str:
        """The address for a service that draws badges."""
        return _link(badge, "json")

    @admin.display(description=gettext_lazy("for a README"))
    def markdown(self, badge: Badge) -> str:
        """The image in Markdown."""
        name = badge.job.name.replace("[", "(").replace("]", ")")
        return format_html("<code>![{}]({}{})</code>", name, site_url(), _path(badge, "svg"))

    @admin.display(description=gettext_lazy("created"), ordering="created_at")
    def created(self, badge: Badge) -> str:
        """When it was created."""
        return formats.time_html(badge.created_at)


def _path(badge: Badge, form: str) -> str:
    """The path of an address; empty if the site does not serve badges."""
    try:
        return reverse(f"chroniker_monitors:badge_{form}", args=(badge.address,))
    except NoReverseMatch:
        return ""


def _link(badge: Badge, form: str) -> str:
    path = _path(badge, form)
    if not path:
        return _('Badges need path("", include("chroniker_monitors.urls")) in the root URLconf.')
    return format_html('<a href="{}">{}{}</a>', path, site_url(), path)
