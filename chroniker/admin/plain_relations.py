"""Related rows of read-only forms: Django links to their pages, whether or not one may see them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from . import formats
from .site_links import may_view

FieldName = str | Callable[[Any], str]


def unlinked(
    model_admin: admin.options.BaseModelAdmin[Any],
    request: HttpRequest,
    fields: tuple[str, ...],
    *relations: str,
) -> list[FieldName]:
    """The fields, with plain text for the relations whose rows the user may not see."""
    names: list[FieldName] = []
    for name in fields:
        related = (
            model_admin.model._meta.get_field(name).related_model if name in relations else None
        )
        hidden = isinstance(related, type) and not may_view(
            model_admin.admin_site, request, related
        )
        names.append(_plain(model_admin.model._meta.label, name) if hidden else name)
    return names


@cache
def _plain(label: str, name: str) -> Callable[[Any], str]:
    model = apps.get_model(label)

    @admin.display(description=model._meta.get_field(name).verbose_name)
    def text(row: Model) -> str:
        return str(getattr(row, name) or formats.EMPTY)

    return text
