"""The list of jobs: its rows, prepared with a constant number of queries, and their updates."""

from __future__ import annotations

from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.utils.functional import cached_property
from django.utils.timezone import now as utc_now

from chroniker.models import Job

from .base import BaseAdmin
from .change_list import BaseChangeList
from .job_rows import prepare_rows
from .live import live_response
from .site_status import load_site_status

MAX_LIVE_ROWS = 200
"""Rows that one request updates."""


class JobChangeList(BaseChangeList):
    """Links to the page of a job instead of its form."""

    def get_results(self, request: HttpRequest) -> None:
        """Prepare the rows of this page."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        admin = self.model_admin
        assert isinstance(admin, BaseAdmin)
        prepare_rows(
            self.result_list, load_site_status(request), utc_now(), _run_url(admin, request)
        )

    def url_for_result(self, result: Model) -> str:
        """The page of the job."""
        return self._page_url.replace("/0/", f"/{result.pk}/")

    @cached_property
    def _page_url(self) -> str:
        """The address of a page, with 0 as the key."""
        admin = self.model_admin
        assert isinstance(admin, BaseAdmin)
        return admin.admin_url(admin.view_name("page"), 0)


def update_rows(admin: BaseAdmin[Job], request: HttpRequest) -> HttpResponse:
    """JSON: the cells of the jobs ``?ids=1,2``, as far as the user may see them."""
    ids = request.GET.get("ids", "").split(",")
    if len(ids) > MAX_LIVE_ROWS or not all(
        one.isascii() and one.isdigit() and len(one) < 19 for one in ids
    ):
        return HttpResponseBadRequest("Not a list of keys.", content_type="text/plain")
    jobs = admin.get_queryset(request).filter(pk__in=[int(one) for one in ids])
    rows = prepare_rows(jobs, load_site_status(request), utc_now(), _run_url(admin, request))
    fragments: dict[str, str] = {}
    for row in rows:
        fragments.update(row.fragments())
    return live_response(request, fragments, active=any(row.active for row in rows))


def _run_url(admin: BaseAdmin[Job], request: HttpRequest) -> str:
    """The page of a run, with 0 as its key; empty if the user may not see it."""
    return admin.admin_url("chroniker_run_change", 0) if admin.may_view(request, "run") else ""
