"""Links that notifications contain."""

from __future__ import annotations

import logging

from django.apps import apps
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from chroniker.conf import conf
from chroniker.extensions import page_sources
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
    return "" if row is None else row_link(type(row), row.pk)


def row_link(model: type[Model], pk: int) -> str:
    """The URL in the admin of the row with this key; empty if there is none."""
    return _link(model, "change", [pk])


def list_link(model: type[Model]) -> str:
    """The URL of the list of a model in the admin; empty if there is none."""
    return _link(model, "changelist", [])


def _link(model: type[Model], page: str, args: list[int]) -> str:
    site = site_url()
    if not site:
        return ""
    meta = model._meta
    try:
        return site + reverse(f"admin:{meta.app_label}_{meta.model_name}_{page}", args=args)
    except NoReverseMatch:
        return ""


def job_pages(job: Job | None) -> list[tuple[str, str]]:
    """Labels and URLs of the pages about a job that other apps have."""
    if job is None:
        return []
    pages: list[tuple[str, str]] = []
    for source in page_sources():
        try:
            pages += source(job)
        except Exception:
            logger.warning("No links for job %s", job.name, exc_info=True, extra=log_context())
    return pages


def runbook_link(job: Job | None) -> str:
    """The job's runbook URL; empty if it is not an HTTP address that is safe to follow."""
    url = job.runbook_url if job else ""
    safe = url.lower().startswith(("http://", "https://")) and url.isprintable() and " " not in url
    return url if safe else ""
