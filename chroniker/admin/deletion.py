"""What a deletion includes, counted by the database.

Django's own confirmation page loads and lists every row. A job may have a thousand runs with a
megabyte of output each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import (
    CASCADE,
    Count,
    IntegerField,
    Model,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
)
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

M = TypeVar("M", bound=Model)
DeletionSummary = tuple[list[str], dict[str, int], set[str], list[str]]
"""The return value of ``ModelAdmin.get_deleted_objects``: the objects, the number of rows by
model, the models that the user may not delete, and the objects that cannot be deleted now."""

_MAX_LISTED = 100
STILL_RUNNING = gettext_lazy("it is running; stop it first")


def summarize_deletion(
    model_admin: admin.ModelAdmin[M],
    request: HttpRequest,
    objects: Sequence[M] | QuerySet[M],
    kept: Mapping[int, str],
) -> DeletionSummary:
    """Count what is deleted with ``objects``. ``kept``: why some cannot be deleted, by key."""
    opts = model_admin.opts
    rows = list(objects)
    forbidden: set[str] = set()
    if not all(model_admin.has_delete_permission(request, r) for r in rows if r.pk not in kept):
        forbidden.add(str(opts.verbose_name))
    counts = {str(opts.verbose_name_plural): len(rows)}
    chosen = model_admin.model._default_manager.filter(
        pk__in=objects.order_by().values("pk")
        if isinstance(objects, QuerySet)
        else [row.pk for row in rows]
    )
    for model, number in _count_dependent(chosen):
        name = str(model._meta.verbose_name_plural)
        counts[name] = counts.get(name, 0) + number
        if not _may_delete(model_admin.admin_site, request, model):
            forbidden.add(str(model._meta.verbose_name))
    listed = [str(row) for row in rows[:_MAX_LISTED]]
    if len(rows) > _MAX_LISTED:
        listed.append(_("… and %d more") % (len(rows) - _MAX_LISTED))
    protected: list[str] = [
        format_html("{} ({})", row, kept[row.pk]) for row in rows if row.pk in kept
    ]
    return listed, counts, forbidden, protected


def _count_dependent(rows: QuerySet[M]) -> list[tuple[type[Model], int]]:
    """The models of the rows that are deleted as well, with their numbers: one statement."""
    found: list[tuple[type[Model], QuerySet[Any, int]]] = []
    for relation in rows.model._meta.related_objects:
        related, field = relation.related_model, relation.field.name
        if relation.on_delete is CASCADE and not isinstance(related, str):
            own = related._default_manager.filter(**{field: OuterRef("pk")}).order_by()
            numbers = own.values(field).annotate(number=Count("pk")).values_list("number")
            found.append((related, numbers))
    names = [f"number_{position}" for position in range(len(found))]
    counted = {
        name: Subquery(numbers, output_field=IntegerField())
        for name, (_related, numbers) in zip(names, found, strict=True)
    }
    sums = rows.annotate(**counted).aggregate(**{f"sum_{name}": Sum(name) for name in names})
    totals = [int(sums[f"sum_{name}"] or 0) for name in names]
    return [(related, total) for (related, _), total in zip(found, totals, strict=True) if total]


def _may_delete(site: admin.AdminSite, request: HttpRequest, model: type[Model]) -> bool:
    """As in Django: rows of a model without an admin are deleted with the row they belong to."""
    if not site.is_registered(model):
        return True
    model_admin = site.get_model_admin(model)
    if getattr(model_admin, "belongs_to_job", False):
        return True
    return model_admin.has_delete_permission(request)
