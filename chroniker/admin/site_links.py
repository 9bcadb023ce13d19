"""Links within the admin site of a request, only to pages that it has and that the user may see."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.sites import all_sites
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


def site_of(request: HttpRequest) -> AdminSite:
    """The admin site that serves the request; a project may have several."""
    match = request.resolver_match
    name = getattr(request, "current_app", "") or (match.namespace if match else "")
    return next((site for site in all_sites if site.name == name), admin.site)


def may_view(site: AdminSite, request: HttpRequest, model: type[Model]) -> bool:
    """Whether the site has pages of the model that the user may see."""
    if not site.is_registered(model):
        return False
    return site.get_model_admin(model).has_view_or_change_permission(request)


def may_view_model(site: AdminSite, request: HttpRequest, name: str) -> bool:
    """The same for a model of Chroniker's by its name, for example ``run``."""
    return may_view(site, request, apps.get_model("chroniker", name))


def page_url(site: AdminSite, name: str, *args: int) -> str:
    """The address of a page, for example of ``chroniker_run_change``; empty if there is none."""
    try:
        return reverse(f"admin:{name}", args=args, current_app=site.name)
    except NoReverseMatch:
        return ""
