"""Links between the pages, shown at the top of each."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Model
from django.http import HttpRequest
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from chroniker.models import Host, Incident, Job, Maintenance, Run

from .site_links import may_view, page_url, site_of


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """A page and whether it is the current one, or the current one is below it."""

    label: str
    url: str
    current: str
    """The value of ``aria-current``; empty if it is not the current one."""


def navigation(request: HttpRequest) -> list[NavigationLink]:
    """The pages that the user may see. Kinds of jobs of other apps are found in the registry."""
    site = site_of(request)
    models = {
        model._meta.model_name: model for model in site._registry if may_view(site, request, model)
    }
    kinds = [m for m in models.values() if issubclass(m, Job) and m is not Job]
    entries: list[tuple[str, str]] = []
    if Job in models.values():
        entries.append((_("Overview"), "chroniker_job_overview"))
    lists: list[type[Model]] = [Job, *kinds, Run, Incident]
    entries += [_list_entry(model) for model in lists if model in models.values()]
    if Job in models.values():
        entries.append((_("Calendar"), "chroniker_job_calendar"))
    entries += [_list_entry(model) for model in (Host, Maintenance) if model in models.values()]
    urls = {label: page_url(site, name) for label, name in entries}
    current = max(
        (u for u in urls.values() if u and request.path.startswith(u)), key=len, default=""
    )
    return [
        NavigationLink(label, url, _current(url, current, request.path))
        for label, url in urls.items()
        if url
    ]


def _list_entry(model: type[Model]) -> tuple[str, str]:
    meta = model._meta
    return capfirst(str(meta.verbose_name_plural)), f"{meta.app_label}_{meta.model_name}_changelist"


def _current(url: str, current: str, path: str) -> str:
    if url != current:
        return ""
    return "page" if url == path else "true"
