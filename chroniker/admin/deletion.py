"""What deleting rows takes with it, counted by the database.

Django's own page loads every row that goes, and lists it by name. A job may have a thousand runs
with a megabyte of output each.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import CASCADE, Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

Answer = tuple[list[str], dict[str, int], set[str], list[SafeString]]
"""As ``ModelAdmin.get_deleted_objects`` gives it: the objects, the numbers by model, what the
user may not delete, and what cannot be deleted now."""

_LISTED = 100


def deletable(
    model_admin: admin.ModelAdmin[Any], request: HttpRequest, objects: Any, running: set[int]
) -> Answer:
    """What goes with ``objects``, of which those with the keys ``running`` are stopped first."""
    opts = model_admin.opts
    rows = list(objects)
    forbidden: set[str] = set()
    if not all(model_admin.has_delete_permission(request, r) for r in rows if r.pk not in running):
        forbidden.add(str(opts.verbose_name))
    counts = {str(opts.verbose_name_plural): len(rows)}
    within = objects.order_by().values("pk") if isinstance(objects, QuerySet) else rows
    for relation in opts.related_objects:
        model = relation.related_model
        if relation.on_delete is not CASCADE or isinstance(model, str):
            continue
        number = model._default_manager.filter(**{f"{relation.field.name}__in": within}).count()
        if not number:
            continue
        name = str(model._meta.verbose_name_plural)
        counts[name] = counts.get(name, 0) + number
        if not _may_delete(model_admin.admin_site, request, model):
            forbidden.add(str(model._meta.verbose_name))
    listed = [str(row) for row in rows[:_LISTED]]
    if len(rows) > _LISTED:
        listed.append(_("… and %d more") % (len(rows) - _LISTED))
    reason = _("it runs; stop it first")
    protected = [format_html("{} ({})", row, reason) for row in rows if row.pk in running]
    return listed, counts, forbidden, protected


def _may_delete(site: admin.AdminSite, request: HttpRequest, model: type[Model]) -> bool:
    """As Django has it: rows that no admin page is for go with what they belong to."""
    if not site.is_registered(model):
        return True
    return site.get_model_admin(model).has_delete_permission(request)
