"""The pages of digests: who receives the incidents of a day in one email."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django import forms
from django.contrib.admin import widgets
from django.contrib.auth import get_user_model
from django.db.models import ForeignKey
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from chroniker.models import Digest

from .base import BaseAdmin
from .plain_relations import unlinked

if TYPE_CHECKING:
    DigestModelForm = forms.ModelForm[Digest]
else:
    DigestModelForm = forms.ModelForm


class DigestForm(DigestModelForm):
    """A digest with a valid time zone."""

    class Meta:
        model = Digest
        fields = ("user", "hour", "timezone", "digest_only")

    def clean_timezone(self) -> str:
        """Require an IANA name."""
        name: str = self.cleaned_data["timezone"]
        try:
            ZoneInfo(name)
        except (LookupError, ValueError, OSError) as error:
            raise forms.ValidationError(
                _("Unknown time zone. Enter an IANA name, for example Europe/Paris.")
            ) from error
        return name


class DigestAdmin(BaseAdmin[Digest]):
    """The digest of a user: when it is sent, and whether it replaces individual emails."""

    form = DigestForm
    list_display = ("user", "hour", "timezone", "digest_only", "next_at")
    list_select_related = ("user",)
    empty_text = gettext_lazy(
        "No digests yet. A digest sends a user one email a day with the incidents of their jobs."
    )
    search_fields = ("=user__pk",)

    def get_fields(self, request: HttpRequest, obj: Digest | None = None) -> Any:
        """Link to the user if whoever may only read digests may see users."""
        fields = ("user", "hour", "timezone", "digest_only")
        editable = self.has_add_permission(request) or self.has_change_permission(request, obj)
        return fields if editable else unlinked(self, request, fields, "user")

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Choose the user by name where the site has a page for users, which may be many."""
        return ("user",) if self._searches_users(request) else ()

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> Any:
        """Without such a page, enter the key: a list of all users could be too long."""
        if db_field.name == "user" and not self._searches_users(request):
            kwargs["widget"] = widgets.ForeignKeyRawIdWidget(
                db_field.remote_field, self.admin_site, using=kwargs.get("using")
            )
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def _searches_users(self, request: HttpRequest) -> bool:
        model = get_user_model()
        if not self.admin_site.is_registered(model):
            return False
        users = self.admin_site.get_model_admin(model)
        return bool(users.get_search_fields(request)) and users.has_view_permission(request)

    def save_model(self, request: HttpRequest, obj: Digest, form: object, change: object) -> None:
        """Clear the next time, so that the next tick computes it."""
        obj.next_at = None
        super().save_model(request, obj, form, change)
