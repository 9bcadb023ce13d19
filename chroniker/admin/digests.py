"""The pages of digests: who receives the incidents of a day in one email."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext as _

from chroniker.models import Digest

from .base import BaseAdmin

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


@admin.register(Digest)
class DigestAdmin(BaseAdmin[Digest]):
    """The digest of a user: when it is sent, and whether it replaces individual emails."""

    form = DigestForm
    list_display = ("user", "hour", "timezone", "digest_only", "next_at")
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    search_fields = ("=user__pk",)

    def save_model(self, request: HttpRequest, obj: Digest, form: object, change: object) -> None:
        """Clear the next time, so that the next tick computes it."""
        obj.next_at = None
        super().save_model(request, obj, form, change)
