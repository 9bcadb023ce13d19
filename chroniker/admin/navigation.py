"""Links between the pages, shown at the top of each."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib import admin
from django.contrib.admin import AdminSite
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from chroniker.models import Host, Incident, Job, Maintenance, Run


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """A page and whether it is the current one."""

    label: str
    url: str
    current: bool


def navigation(request: HttpRequest, site: AdminSite = admin.site) -> list[NavigationLink]:
    """The pages that the user may see. Kinds of jobs of other apps are found in the registry."""
    current = request.path
    kinds = [m for m in site._registry if issubclass(m, Job) and m is not Job]
    links: list[NavigationLink | None] = []
    if _may_view(request, site, Job):
        links.append(_link(_("Overview"), "chroniker_job_overview", current))
    lists: list[type[Model]] = [Job, *kinds, Run, Incident]
    links += [_list_link(request, site, model, current) for model in lists]
    if _may_view(request, site, Job):
        links.append(_link(_("Calendar"), "chroniker_job_calendar", current))
    lists = [Host, Maintenance]
    links += [_list_link(request, site, model, current) for model in lists]
    return [link for link in links if link is not None]


def _may_view(request: HttpRequest, site: AdminSite, model: type[Model]) -> bool:
    return site.is_registered(model) and site.get_model_admin(model).has_view_or_change_permission(
        request
    )


def _list_link(
    request: HttpRequest, site: AdminSite, model: type[Model], current: str
) -> NavigationLink | None:
    if not _may_view(request, site, model):
        return None
    meta = model._meta
    label = capfirst(str(meta.verbose_name_plural))
    return _link(label, f"{meta.app_label}_{meta.model_name}_changelist", current)


def _link(label: str, name: str, current: str) -> NavigationLink | None:
    try:
        url = reverse(f"admin:{name}")
    except NoReverseMatch:
        return None
    return NavigationLink(label, url, current == url)
