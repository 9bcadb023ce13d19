"""Links that notifications contain."""

from __future__ import annotations

import logging

from django.apps import apps
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from chroniker.conf import conf
from chroniker.logs import log_context
from chroniker.models import Job

logger = logging.getLogger(__name__)


def site_url() -> str:
    """The URL of the site without a trailing slash; empty if it is not known."""
    url = conf.SITE_URL.rstrip("/")
    if not url and apps.is_installed("django.contrib.sites"):
        from django.contrib.sites.models import Site

        try:
            url = f"https://{Site.objects.get_current().domain}"
        except Exception:
            logger.warning(
                "The current site is not known; set CHRONIKER_SITE_URL",
                exc_info=True,
                extra=log_context(),
            )
    return url


def admin_link(row: Model | None) -> str:
    """The URL of a row's page in the admin; empty if there is none."""
    site = site_url()
    if row is None or not site:
        return ""
    meta = row._meta
    try:
        path = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return ""
    return site + path


def runbook_link(job: Job | None) -> str:
    """The job's runbook URL; empty if it is not an HTTP address that is safe to follow."""
    url = job.runbook_url if job else ""
    safe = url.lower().startswith(("http://", "https://")) and url.isprintable() and " " not in url
    return url if safe else ""
