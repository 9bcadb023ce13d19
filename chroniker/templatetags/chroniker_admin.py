"""Template tags of the admin pages."""

from __future__ import annotations

from django import template
from django.http import HttpRequest
from django.template import Context

from chroniker.admin.banners import site_banners
from chroniker.admin.navigation import navigation
from chroniker.admin.site_status import load_site_status

register = template.Library()


@register.inclusion_tag("chroniker/admin/page_top.html", takes_context=True)
def chroniker_page_top(context: Context) -> dict[str, object]:
    """The links between the pages, and what is wrong with the whole site."""
    request = context.get("request")
    if not isinstance(request, HttpRequest) or context.get("is_popup"):
        return {}
    return {
        "links": navigation(request),
        "banners": site_banners(load_site_status(request), request),
    }
